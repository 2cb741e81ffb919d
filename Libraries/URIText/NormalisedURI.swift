/// A URI in normal form, as a value that owns its text. For tests, configuration and other cold places: it allocates.
public struct NormalisedURI: Hashable, Sendable {
  /// The normal form; ASCII.
  public let text: String
  /// The length of the program, a prefix of `text`, in bytes.
  public let programLength: Int

  /// The program key, such as `mutable://open`.
  public var program: String { String(decoding: text.utf8.prefix(programLength), as: UTF8.self) }

  /// The path segments, as written in the normal form (percent-encoded).
  public var segments: [String] {
    text.utf8.dropFirst(programLength).split(separator: UInt8(ascii: "/"))
      .map { String(decoding: $0, as: UTF8.self) }
  }
}

extension URIText {
  /// The normal form of a text, or nil when it is no URI. Allocates.
  public static func normalise(_ text: String) -> NormalisedURI? {
    var text = text
    return text.withUTF8 { input in
      withScratch(forInputBytes: input.count) { scratch in
        own(normalise(input, into: scratch), input: input, scratch: scratch)
      }
    }
  }

  /// The normal form of a URI given as the parts of a request path (see `fromPath(scheme:domain:rest:into:)`), or nil
  /// when they make no URI. Allocates.
  public static func fromPath(scheme: String, domain: String, rest: String) -> NormalisedURI? {
    var (scheme, domain, rest) = (scheme, domain, rest)
    return scheme.withUTF8 { schemeBytes in
      domain.withUTF8 { domainBytes in
        rest.withUTF8 { restBytes in
          withScratch(forInputBytes: schemeBytes.count + domainBytes.count + restBytes.count + 4) { scratch in
            own(
              fromPath(scheme: schemeBytes, domain: domainBytes, rest: restBytes, into: scratch),
              input: UnsafeBufferPointer(start: nil, count: 0), scratch: scratch)
          }
        }
      }
    }
  }

  private static func withScratch<Result>(
    forInputBytes count: Int, _ body: (UnsafeMutableBufferPointer<UInt8>) -> Result
  ) -> Result {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: scratchBytes(forInputBytes: count)) { scratch in
      scratch.initialize(repeating: 0)
      return body(scratch)
    }
  }

  private static func own(
    _ outcome: Outcome, input: UnsafeBufferPointer<UInt8>, scratch: UnsafeMutableBufferPointer<UInt8>
  ) -> NormalisedURI? {
    switch outcome {
    case .unchanged(let programLength):
      NormalisedURI(text: String(decoding: input, as: UTF8.self), programLength: programLength)
    case .written(let length, let programLength):
      NormalisedURI(text: String(decoding: scratch[..<length], as: UTF8.self), programLength: programLength)
    case .invalid, .tooLong:
      nil
    }
  }
}
