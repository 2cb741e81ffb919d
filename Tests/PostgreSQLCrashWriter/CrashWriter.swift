import BackendTesting
import Glibc
import PluginAPI
import PostgreSQLBackend

/// Writes to the URL that it is given until it is killed, and prints the number of each write once it is acknowledged:
/// what is then found in the table must be at least that.
@main
enum CrashWriter {
  static func main() throws {
    let backend = try TestBackend.started(PostgreSQLBackend.self, #"{"url":"\#(CommandLine.arguments[1])"}"#)
    Threads.run(4) { thread in
      var index = 0
      while true {
        let name = "\(thread)-\(index)"
        let answer = backend.apply(
          [.put("mutable://open/\(name)", Array(name.utf8)), .put("mutable://open/twin/\(name)", Array(name.utf8))])
        if answer.code != BP_OK { fatalError(answer.message) }
        say(name)
        index += 1
      }
    }
  }

  /// One line in one write, without a buffer of ours in between.
  private static func say(_ text: String) {
    let line = Array("\(text)\n".utf8)
    if write(1, line, line.count) != line.count { exit(1) }
  }
}
