import PluginAPI

/// Records of 200 bytes. Never freed: calls borrow them.
struct Values: @unchecked Sendable {
  // @unchecked: written once.
  let uris: [bp_view]
  let data: [bp_view]

  init(count: Int) {
    func keep(_ text: String) -> bp_view {
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
      _ = copy.initialize(from: text.utf8)
      return bp_view(BorrowedBytes(copy))
    }
    uris = (0..<count).map { keep("mutable://open/bench/\($0 % 100)/record-\($0)") }
    data = (0..<64).map { keep(#"{"n":\#($0 + 100),"text":""# + String(repeating: "x", count: 181) + #""}"#) }
  }
}
