import BackplaneABI
import Glibc
import Logging
import Synchronization

/// The kernel's log: one line for each event, to standard error.
public final class KernelLog: Sendable {
  private let settings: Mutex<NodeConfiguration.Log>
  private let logger: Logger
  /// Log events of plugins that the rate limit dropped.
  let dropped = Atomic<UInt64>(0)

  public init(_ settings: NodeConfiguration.Log) {
    self.settings = Mutex(settings)
    logger = Logger(label: "backplane") { _ in LineLogHandler(format: settings.format, logLevel: .trace) }
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
    var handler = LineLogHandler(format: settings.format, logLevel: .trace)
    handler.metadata = fields.mapValues { .string(Redaction.redact($0)) }
    handler.write(level, message)
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
    var fields = ["slot": instance.slot.name, "plugin": instance.image.id, "version": instance.image.version]
    for index in 0..<min(count, 32) { fields[list![index].key.text] = list![index].value.text }
    write(level, message.text, fields)
  }
}

/// Formats an event as text, JSON or logfmt and writes it with one system call, so that lines do not mix.
struct LineLogHandler: LogHandler {
  let format: NodeConfiguration.Log.Format
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  init(format: NodeConfiguration.Log.Format, logLevel: Logger.Level) {
    self.format = format
    self.logLevel = logLevel
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    write(event.level, event.message.description)
  }

  func write(_ level: Logger.Level, _ message: String) {
    let fields = metadata.map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 }
    let time = Timestamp.now()
    var line = ""
    switch format {
    case .text:
      line = "\(time) \(level.rawValue) \(message)"
      for (key, value) in fields { line += " \(key)=\(Self.quoted(value))" }
    case .logfmt:
      line = "ts=\(time) level=\(level.rawValue) msg=\(Self.jsonText(message))"
      for (key, value) in fields { line += " \(key)=\(Self.quoted(value))" }
    case .json:
      line = "{\"ts\":\"\(time)\",\"level\":\"\(level.rawValue)\",\"msg\":\(Self.jsonText(message))"
      for (key, value) in fields { line += ",\(Self.jsonText(key)):\(Self.jsonText(value))" }
      line += "}"
    }
    line += "\n"
    line.withUTF8 { bytes in _ = Glibc.write(2, bytes.baseAddress, bytes.count) }
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
