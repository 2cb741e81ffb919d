import BackendTesting
import FilesBackend
import Glibc
import PluginAPI
import SQLiteBackend

/// What a test cannot do in its own process, to a backend by name: `write` writes until it is killed, `outgrow` runs into
/// the size that its files may have, `fill` runs out of disk. Arguments: BACKEND MODE PATH DURABILITY ROUND.
@main
enum CrashWriter {
  static func main() throws {
    let words = CommandLine.arguments
    func started<P: DirectBackend>(_ type: P.Type, _ scheme: String) throws -> TestBackend {
      try TestBackend.started(type, #"{"url":"\#(scheme)://\#(words[3])","durability":"\#(words[4])"}"#)
    }
    let backend =
      words[1] == "files" ? try started(FilesBackend.self, "file") : try started(SQLiteBackend.self, "sqlite")
    switch words[2] {
    case "outgrow": runIntoTheLimit(backend)
    case "fill": runOutOfRoom(backend)
    default: writeForEver(backend, round: words[5])
    }
  }

  /// Says each change once it is acknowledged, `+name` or `-name`: what is then found must be at least that. Before a
  /// record is deleted `?name` says that it may be gone. The second record of every unit is a twin of the first.
  private static func writeForEver(_ backend: TestBackend, round: String) {
    Threads.run(4) { thread in
      var index = 0
      func apply(_ sign: String, _ name: String, _ ops: [Op]) {
        let answer = backend.apply(ops)
        if answer.code != BP_OK { fatalError(answer.message) }
        say(sign + name)
      }
      while true {
        let name = "\(round)-\(thread)-\(index)"
        let data = Array(name.utf8)
        apply("+", name, [.put("mutable://open/\(name)", data), .put("mutable://open/twin/\(name)", data, .bytes)])
        if index % 4 == 3 {
          let old = "\(round)-\(thread)-\(index - 2)"
          say("?" + old)
          apply("-", old, [.delete("mutable://open/\(old)"), .delete("mutable://open/twin/\(old)")])
        }
        index += 1
      }
    }
  }

  /// A bound on the size of this process's files stands for the end of the disk.
  private static func runIntoTheLimit(_ backend: TestBackend) {
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

  /// Writes until there is no room, deletes something, and writes again. Says what it was told, and what was lost.
  private static func runOutOfRoom(_ backend: TestBackend) {
    let data = [UInt8](repeating: 7, count: 100_000)
    var count = 0
    var answer: Answer
    repeat {
      answer = backend.apply([.put("a://b/\(count)", data, .bytes)])
      count += 1
    } while answer.code == BP_OK && count < 10_000
    say("full \(answer.code) \(answer.message)")
    say("delete \((0..<4).map { backend.apply([.delete("a://b/\($0)")]).code })")
    say("write \(backend.apply([.put("a://b/again", data, .bytes)]).code)")
    say("lost \((4..<(count - 1)).filter { backend.read("a://b/\($0)").record?.data != data })")
  }

  /// One line in one write, without a buffer of ours in between.
  private static func say(_ text: String) {
    let line = Array("\(text)\n".utf8)
    if write(1, line, line.count) != line.count { exit(1) }
  }
}
