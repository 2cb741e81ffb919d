import ICUShim
import Synchronization

/// A regular expression as JavaScript has it, matched anywhere in a text by ICU with a time limit. Any number of threads.
final class TextPattern: Sendable {
  enum Outcome { case matches, differs, tooSlow, failed }

  /// Longest pattern.
  static let sizeBytesMax = 1024
  private static let stackBytesMax: Int32 = 4 << 20

  /// As written.
  let text: String
  private let translated: [UInt8]
  /// Compiled, not in use; one is made for each match that runs beside others.
  private let idle: Mutex<[OpaquePointerBox]>

  private struct OpaquePointerBox: @unchecked Sendable {
    // @unchecked: used by whoever took it out of `idle`, alone.
    let regex: OpaquePointer
  }

  /// Nil when the text is no regular expression, or too long.
  init?(_ text: String) {
    self.text = text
    translated = Array(ECMAPattern.translated(text).utf8)
    guard text.utf8.count <= Self.sizeBytesMax, let first = Self.open(translated) else { return nil }
    idle = Mutex([OpaquePointerBox(regex: first)])
  }

  deinit { idle.withLock { $0.forEach { icu_shim_regex_close($0.regex) } } }

  static func isPattern(_ text: String) -> Bool {
    guard text.utf8.count <= sizeBytesMax, let regex = open(Array(ECMAPattern.translated(text).utf8)) else {
      return false
    }
    icu_shim_regex_close(regex)
    return true
  }

  func matches(_ text: UnsafeBufferPointer<UInt8>, deadlineNs: Int64) -> Outcome {
    let taken = idle.withLock { $0.popLast() }
    guard let box = taken ?? Self.open(translated).map(OpaquePointerBox.init) else { return .failed }
    defer { idle.withLock { $0.append(box) } }
    switch icu_shim_regex_find(box.regex, text.baseAddress, text.count, deadlineNs) {
    case ICU_SHIM_MATCH: return .matches
    case ICU_SHIM_NO_MATCH: return .differs
    case ICU_SHIM_FAILED: return .failed
    default: return .tooSlow
    }
  }

  private static func open(_ pattern: [UInt8]) -> OpaquePointer? {
    var regex: OpaquePointer?
    _ = icu_shim_regex_open(pattern, pattern.count, .max, stackBytesMax, &regex)
    return regex
  }
}
