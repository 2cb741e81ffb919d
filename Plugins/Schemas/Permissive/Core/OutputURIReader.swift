import PluginAPI
import SchemaSupport
import URIText

/// Brings the URIs of outputs to their normal form, to check them; keeps its memory from one to the next. A URI in
/// normal form needs none.
struct OutputURIReader {
  private var scratch: [UInt8] = []

  /// Calls `body` with the normal form, or with nil when `uri` is no URI. Valid during the call.
  mutating func read(_ uri: BorrowedBytes, _ body: (BorrowedBytes?) throws(Refusal) -> Void) throws(Refusal) {
    let outcome = normalise(uri)
    switch outcome {
    case .unchanged: try body(uri)
    case .invalid, .tooLong: try body(nil)
    case .written(let length, _):
      let result: Result<Void, Refusal> = scratch.withUnsafeBufferPointer { scratch in
        do throws(Refusal) {
          return .success(try body(BorrowedBytes(rebasing: scratch[..<length])))
        } catch { return .failure(error) }
      }
      try result.get()
    }
  }

  private mutating func normalise(_ uri: BorrowedBytes) -> URIText.Outcome {
    let outcome = scratch.withUnsafeMutableBufferPointer { URIText.normalise(uri, into: $0) }
    guard outcome == .tooLong else { return outcome }
    scratch = [UInt8](repeating: 0, count: URIText.scratchBytes(forInputBytes: uri.count))
    return scratch.withUnsafeMutableBufferPointer { URIText.normalise(uri, into: $0) }
  }
}
