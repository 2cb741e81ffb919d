/// The host's log. Messages are constant text; what varies goes into the fields. Any thread; never blocks.
public struct Log: Sendable {
  public enum Level: UInt32, Sendable {
    case error = 0
    case warning = 1
    case info = 2
    case debug = 3
    case trace = 4
  }

  let host: HostHandle

  public init(host: HostHandle) { self.host = host }

  public func error(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.error, message, fields) }
  public func warning(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) {
    write(.warning, message, fields)
  }
  public func info(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.info, message, fields) }
  public func debug(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.debug, message, fields) }

  public func write(_ level: Level, _ message: String, _ fields: KeyValuePairs<String, String>) {
    // One allocation for all the text: the fields' bytes lie one after the other.
    var text: [UInt8] = []
    var ends: [Int] = []
    for (key, value) in fields {
      text.append(contentsOf: key.utf8)
      ends.append(text.count)
      text.append(contentsOf: value.utf8)
      ends.append(text.count)
    }
    text.withUnsafeBufferPointer { bytes in
      func view(_ index: Int) -> bp_view {
        let start = index == 0 ? 0 : ends[index - 1]
        return bp_view(BorrowedBytes(rebasing: bytes[start..<ends[index]]))
      }
      let list = (0..<fields.count).map { bp_field(key: view($0 * 2), value: view($0 * 2 + 1)) }
      message.withView { host.table.pointee.log(host.instance, level.rawValue, $0, list, UInt32(list.count)) }
    }
  }
}
