import BackendSupport
import BackendTesting
import Glibc
import PluginAPI
import SQLiteBackend

/// What a test cannot do in its own process: `write PATH DURABILITY` writes until it is killed, `full PATH DURABILITY`
/// runs out of room.
@main
enum CrashWriter {
  static func main() throws {
    let mode = CommandLine.arguments[1]
    let path = CommandLine.arguments[2]
    let durability = CommandLine.arguments[3]
    let backend = try TestBackend.started(
      SQLiteBackend.self, #"{"url":"sqlite://\#(path)","durability":"\#(durability)"}"#)
    if mode == "full" { runOutOfRoom(backend) } else { writeForEver(backend) }
  }

  /// Prints the number of each write once it is acknowledged: what is then found in the file must be at least that.
  private static func writeForEver(_ backend: TestBackend) {
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

  /// A bound on the size of this process's files stands for the end of the disk.
  private static func runOutOfRoom(_ backend: TestBackend) {
    func report(_ answer: Answer) {
      say("write \(answer.code)")
      if answer.code != BP_OK { say(answer.message) }
    }
    func health() {
      say("health \(backend.health.last?.state ?? 0) read \(backend.read("a://b/1").code)")
    }
    report(backend.apply([.put("a://b/1", [1], .bytes)]))
    signal(SIGXFSZ, SIG_IGN)
    var before = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
    var limit = rlimit(rlim_cur: 200_000, rlim_max: before.rlim_max)
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
    let data = [UInt8](repeating: 7, count: 300_000)
    report(backend.apply([.put("a://b/2", data, .bytes)]))
    health()
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
    report(backend.apply([.put("a://b/2", data, .bytes)]))
    health()
  }

  /// One line in one write, without a buffer of ours in between.
  private static func say(_ text: String) {
    let line = Array("\(text)\n".utf8)
    if write(1, line, line.count) != line.count { exit(1) }
  }
}
