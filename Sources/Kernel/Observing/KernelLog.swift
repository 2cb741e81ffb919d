import BackplaneABI
import Glibc
import Logging
import Synchronization

/// The kernel's log: each event is an entry of the journal, or a line to standard error.
public final class KernelLog: Sendable {
  private let settings: Mutex<NodeConfiguration.Log>
  private let journal: Journal?
  /// Where lines go: standard error, except in a test.
  private let descriptor: Int32
  /// Log events of plugins that the rate limit dropped.
  let dropped = Atomic<UInt64>(0)

  public convenience init(_ settings: NodeConfiguration.Log) {
    self.init(settings, journal: Journal.ofThisProcess, descriptor: STDERR_FILENO)
  }

  init(_ settings: NodeConfiguration.Log, journal: Journal?, descriptor: Int32) {
    self.settings = Mutex(settings)
    self.journal = journal
    self.descriptor = descriptor
  }

  /// Takes effect with the next event.
  func apply(_ new: NodeConfiguration.Log) { settings.withLock { $0 = new } }

  func error(_ message: String, _ fields: [String: String] = [:]) { write(.error, message, fields) }
  func warning(_ message: String, _ fields: [String: String] = [:]) { write(.warning, message, fields) }
  public func notice(_ message: String, _ fields: [String: String] = [:]) { write(.notice, message, fields) }
  public func info(_ message: String, _ fields: [String: String] = [:]) { write(.info, message, fields) }
  func debug(_ message: String, _ fields: [String: String] = [:]) { write(.debug, message, fields) }

  private func write(_ level: Logger.Level, _ message: String, _ fields: [String: String]) {
    let settings = settings.withLock { $0 }
    guard level >= (Logger.Level(rawValue: settings.level.rawValue) ?? .info) else { return }
    let fields = fields.map { ($0.key, Redaction.redact($0.value)) }.sorted { $0.0 < $1.0 }
    if settings.format == .auto, let journal {
      let entry = JournalEntry(level, summary: LogLine.summary(message, fields), fields: fields)
      if journal.send(entry.bytes) { return }
      // It is behind or being restarted: its stream on standard error has a buffer of its own.
    }
    var line = journal == nil ? "" : Journal.prefix(level)
    line += LogLine.text(settings.format, level, message, fields) + "\n"
    line.withUTF8 { bytes in _ = Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
  }

  /// An event of a plugin's, rate-limited for each instance.
  func plugin(
    _ instance: Instance, level: UInt32, _ message: bp_view, _ list: UnsafePointer<bp_field>?, _ count: Int
  ) {
    let level: Logger.Level =
      switch level {
      case BP_LOG_ERROR: .error
      case BP_LOG_WARNING: .warning
      case BP_LOG_INFO: .info
      case BP_LOG_DEBUG: .debug
      default: .trace
      }
    guard level >= (Logger.Level(rawValue: settings.withLock { $0.level.rawValue }) ?? .info) else { return }
    switch instance.logLimit.admit() {
    case .dropped:
      dropped.add(1, ordering: .relaxed)
      return
    case .admitted(let missed):
      if missed > 0 {
        write(.warning, "log events of a plugin were dropped", ["slot": instance.slot.name, "count": "\(missed)"])
      }
    }
    var fields = [
      "slot": instance.slot.name, "plugin": instance.image.id, "version": instance.image.version,
      "generation": "\(instance.bornGeneration.load(ordering: .relaxed))",
    ]
    for index in 0..<min(count, 32) {
      let key = list![index].key.text
      // Who a plugin is, we say. (The journal's names have no case.)
      if !["slot", "plugin", "version", "generation"].contains(key.lowercased()) {
        fields[key] = list![index].value.text
      }
    }
    write(level, message.text, fields)
  }
}

/// An event as a line of text, JSON or logfmt, without its line break. It is written with one system call, so that lines do
/// not mix.
enum LogLine {
  static func text(
    _ format: NodeConfiguration.Log.Format, _ level: Logger.Level, _ message: String, _ fields: [(String, String)]
  ) -> String {
    let time = Timestamp.now()
    switch format {
    case .auto, .text: return "\(time) \(level.rawValue) \(summary(message, fields))"
    case .logfmt:
      return "ts=\(time) level=\(level.rawValue) msg=\(jsonText(message))" + pairs(fields)
    case .json:
      var line = "{\"ts\":\"\(time)\",\"level\":\"\(level.rawValue)\",\"msg\":\(jsonText(message))"
      for (key, value) in fields { line += ",\(jsonText(key)):\(jsonText(value))" }
      return line + "}"
    }
  }

  /// The message and its fields.
  static func summary(_ message: String, _ fields: [(String, String)]) -> String { message + pairs(fields) }

  private static func pairs(_ fields: [(String, String)]) -> String {
    fields.map { " \($0.0)=\(quoted($0.1))" }.joined()
  }

  private static func quoted(_ text: String) -> String {
    let isPlain = !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x3d }
    return isPlain ? text : jsonText(text)
  }

  static func jsonText(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{0}"..<"\u{20}", "\u{7f}":
        let hexadecimal = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hexadecimal.count) + hexadecimal
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

/// At most so many events a second.
final class RateLimit: Sendable {
  enum Verdict {
    /// And how many were dropped before this one.
    case admitted(missed: Int)
    case dropped
  }

  private let perSecond: Int
  private let state = Mutex<(windowNs: UInt64, count: Int, missed: Int)>((0, 0, 0))

  init(perSecond: Int) { self.perSecond = perSecond }

  func admit() -> Verdict {
    let now = Clock.monotonicNs()
    return state.withLock { state in
      var missed = 0
      if now &- state.windowNs >= 1_000_000_000 {
        missed = state.missed
        state = (now, 0, 0)
      }
      guard state.count < perSecond else {
        state.missed += 1
        return .dropped
      }
      state.count += 1
      return .admitted(missed: missed)
    }
  }
}
