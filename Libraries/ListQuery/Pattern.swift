import ICUShim

/// A compiled pattern with the time left for it. One thread at a time.
final class Pattern {
  private let regex: OpaquePointer
  private let bounds: ListBounds
  private var timeLeft_ns: Int64

  /// - Returns: nil when the text is no regular expression.
  init?(_ text: String, bounds: ListBounds) throws(ListError) {
    var text = text
    let length = text.utf8.count
    guard length <= bounds.patternBytesMax else {
      throw .patternTooLong(length: length, patternBytesMax: bounds.patternBytesMax)
    }
    var opened: OpaquePointer?
    let code = text.withUTF8 {
      icu_shim_regex_open($0.baseAddress, $0.count, bounds.patternStepsMax, bounds.patternStackBytesMax, &opened)
    }
    guard let opened else {
      if icu_shim_is_pattern_error(code) != 0 { return nil }
      throw .engineFailed(String(cString: icu_shim_error_name(code)))
    }
    regex = opened
    self.bounds = bounds
    // An hour is as good as no bound, and cannot overflow.
    timeLeft_ns = Int64(min(bounds.patternTime_ms, 3_600_000)) * 1_000_000
  }

  deinit {
    icu_shim_regex_close(regex)
  }

  func matches(_ uri: UnsafeBufferPointer<UInt8>) throws(ListError) -> Bool {
    let start_ns = icu_shim_now_ns()
    let result = icu_shim_regex_find(regex, uri.baseAddress, uri.count, start_ns + timeLeft_ns)
    timeLeft_ns -= icu_shim_now_ns() - start_ns
    switch result {
    case ICU_SHIM_STACK_FULL:
      throw .patternNeedsTooMuchStack(patternStackBytesMax: bounds.patternStackBytesMax)
    case ICU_SHIM_FAILED:
      throw .engineFailed("a search ended with an unexpected error")
    case ICU_SHIM_MATCH where timeLeft_ns > 0:
      return true
    case ICU_SHIM_NO_MATCH where timeLeft_ns > 0:
      return false
    default:
      throw .patternTooSlow(patternTime_ms: bounds.patternTime_ms, patternStepsMax: bounds.patternStepsMax)
    }
  }
}
