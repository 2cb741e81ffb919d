import Glibc
import ICUShim
import PluginAPI

/// The order of `sortBy=name`, ICU's root collation: the one order that the HTTP API has and that does not change while
/// records come and go. URIs that it holds to be equal are ordered by their bytes. One thread at a time.
final class NameOrder {
  private let collator: OpaquePointer

  init() throws(Failure) {
    var opened: OpaquePointer?
    _ = icu_shim_collator_open(&opened)
    guard let opened else { throw .internal("ICU's root collation could not be opened; see that libicu is whole") }
    collator = opened
  }

  deinit { icu_shim_collator_close(collator) }

  /// Appends what sorts, as bytes, as `uri` does by name.
  func appendKey(of uri: BorrowedBytes, to keys: inout [UInt8]) throws(Failure) {
    let start = keys.count
    var capacity = 2 * uri.count + 32
    while true {
      keys.append(contentsOf: repeatElement(0, count: capacity))
      let length = keys.withUnsafeMutableBufferPointer {
        Int(
          icu_shim_collator_sort_key(
            collator, uri.baseAddress, uri.count, $0.baseAddress! + start, Int32(clamping: capacity)))
      }
      keys.removeLast(max(0, capacity - length))
      if length <= 0 { throw .internal("ICU has no place in its order for a URI of \(uri.count) bytes") }
      // A key ends with a zero byte, so the URI itself can stand behind it.
      if length <= capacity { break }
      keys.removeLast(keys.count - start)
      capacity = length
    }
    keys.append(contentsOf: uri)
  }

  static func isBefore(_ left: BorrowedBytes, _ right: BorrowedBytes) -> Bool {
    let shared = min(left.count, right.count)
    let order = shared == 0 ? 0 : memcmp(left.baseAddress!, right.baseAddress!, shared)
    return order != 0 ? order < 0 : left.count < right.count
  }
}
