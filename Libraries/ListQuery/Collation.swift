import ICUShim

/// The root collator. One thread at a time.
final class Collation {
  private let collator: OpaquePointer

  init() throws(ListError) {
    var opened: OpaquePointer?
    let code = icu_shim_collator_open(&opened)
    guard let opened else { throw .engineFailed(String(cString: icu_shim_error_name(code))) }
    collator = opened
  }

  deinit {
    icu_shim_collator_close(collator)
  }

  /// Whether a text comes before (negative), with (0) or after another one.
  func compare(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) throws(ListError) -> Int32 {
    var code: Int32 = 0
    let order = icu_shim_collator_compare(
      collator, left.baseAddress, left.count, right.baseAddress, right.count, &code)
    if code > 0 { throw .engineFailed(String(cString: icu_shim_error_name(code))) }
    return order
  }

  /// Appends the collation key of a text.
  /// - Returns: its length in bytes.
  func appendKey(of text: UnsafeBufferPointer<UInt8>, to bytes: inout [UInt8]) throws(ListError) -> Int {
    let start = bytes.count
    // Twice the text and a little is mostly enough; a key that needs more is made again.
    var capacity = 2 * text.count + 32
    while true {
      bytes.append(contentsOf: repeatElement(0, count: capacity))
      let length = bytes.withUnsafeMutableBufferPointer {
        Int(
          icu_shim_collator_sort_key(
            collator, text.baseAddress, text.count, $0.baseAddress.map { $0 + start }, Int32(clamping: capacity)))
      }
      bytes.removeLast(max(capacity - length, 0))
      if length <= 0 { throw .engineFailed("no collation key for a URI of \(text.count) bytes") }
      if length <= capacity { return length }
      bytes.removeLast(capacity)
      capacity = length
    }
  }
}
