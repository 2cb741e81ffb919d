/// Finds the end of an HTTP/1.1 answer with a Content-Length, as it comes in pieces.
struct AnswerReader {
  private(set) var bytes: [UInt8] = []
  private var headLength = 0
  private var wholeLength = 0
  private(set) var status = 0
  private(set) var closes = false

  var isEmpty: Bool { bytes.isEmpty }

  mutating func clear() {
    bytes.removeAll(keepingCapacity: true)
    headLength = 0
    wholeLength = 0
    status = 0
    closes = false
  }

  /// True when the answer is whole.
  mutating func take(_ piece: UnsafeRawBufferPointer) -> Bool {
    let searchedFrom = max(0, bytes.count - 3)
    bytes.append(contentsOf: piece)
    if headLength == 0 { findHead(from: searchedFrom) }
    return headLength > 0 && bytes.count >= wholeLength
  }

  private mutating func findHead(from start: Int) {
    var index = start
    while index + 4 <= bytes.count {
      if bytes[index] == 13, bytes[index + 1] == 10, bytes[index + 2] == 13, bytes[index + 3] == 10 {
        headLength = index + 4
        readHead()
        return
      }
      index += 1
    }
  }

  private mutating func readHead() {
    // "HTTP/1.1 200 OK"
    if headLength > 12 { for byte in bytes[9..<12] { status = status * 10 + Int(byte) - 48 } }
    let length = value(of: Array("\r\ncontent-length:".utf8)).reduce(0) { $0 * 10 + Int($1) - 48 }
    closes = value(of: Array("\r\nconnection:".utf8)).elementsEqual(Array("close".utf8))
    wholeLength = headLength + length
  }

  /// What follows a name in lower case, without spaces; empty when it is not there.
  private func value(of name: [UInt8]) -> [UInt8] {
    func lower(_ byte: UInt8) -> UInt8 { (65...90).contains(byte) ? byte | 32 : byte }
    guard headLength > name.count else { return [] }
    for start in 0...(headLength - name.count) where bytes[start] == 13 {
      guard (0..<name.count).allSatisfy({ lower(bytes[start + $0]) == name[$0] }) else { continue }
      return bytes[(start + name.count)..<headLength].prefix { $0 != 13 }.filter { $0 != 32 }.map(lower)
    }
    return []
  }
}
