/// The one normal form of a URI, in which every record is stored, looked up, listed and deleted.
///
/// The rule is the reference node's memory backend: the text is read as the WHATWG URL parser reads it; then
/// `program` is the lower-cased scheme, `://` and the host (without port and userinfo), and the normal form is the
/// program followed by `/segment` for each path segment that is not empty. Query and fragment are dropped. What the
/// parser leaves percent-encoded stays as it is written: `%c3` and `%C3` differ, and `%2F` does not divide segments.
///
/// A record `x` lies below `base` exactly when `x` begins with `base` + `/`, both in normal form.
///
/// Known differences from the WHATWG parser, all of them outside what the reference's own records hold:
/// - a host of a special scheme (http, https, ws, wss, ftp, file) that is not ASCII once percent-decoded is invalid
///   (there are no IDNA tables here), and `xn--` labels are taken as they are;
/// - `^` stays as it is in a path, as the reference does, although the standard encodes it since 2024;
/// - a URI without slash after the scheme (`mutable:open/x`) loses the first character of its path, as in the
///   reference, and the rest is treated as an ordinary path, so that the normal form is a fixed point.
///
/// Every function may run on any thread, keeps nothing and allocates nothing unless it says so.
public enum URIText {
  /// What became of one text. Lengths are in bytes; the program is always a prefix of the normal form.
  public enum Outcome: Equatable, Sendable {
    /// The input is in normal form already: use it as it is.
    case unchanged(programLength: Int)
    /// The normal form is in the first `length` bytes of the scratch buffer.
    case written(length: Int, programLength: Int)
    /// The text is no URI, or not UTF-8.
    case invalid
    /// The scratch buffer is too small: `scratchBytes(forInputBytes:)` tells the size that always suffices.
    case tooLong
  }

  /// The size of a scratch buffer, in bytes, with which an input of `count` bytes is never `tooLong`.
  public static func scratchBytes(forInputBytes count: Int) -> Int {
    4 * count + 64
  }

  /// Brings a URI to its normal form.
  ///
  /// A text in normal form whose scheme is not special costs one scan and no write.
  /// - Parameters:
  ///   - input: the URI, UTF-8; not changed.
  ///   - scratch: the caller's memory; must not overlap `input`. Its contents are undefined unless the outcome is
  ///     `written`.
  public static func normalise(
    _ input: UnsafeBufferPointer<UInt8>, into scratch: UnsafeMutableBufferPointer<UInt8>
  ) -> Outcome {
    if let programLength = NormalForm.programLength(of: input) {
      return .unchanged(programLength: programLength)
    }
    guard UTF8Check.isValid(input) else { return .invalid }
    var text = trimmed(input)
    var room = scratch
    if text.contains(where: isTabOrNewline) {
      guard text.count <= scratch.count else { return .tooLong }
      // The cleaned text sits at the end of the scratch buffer, and the output grows towards it from the start.
      let start = scratch.count - text.count
      let cleaned = UnsafeMutableBufferPointer(rebasing: scratch[start...])
      let count = copyWithoutTabsAndNewlines(text, to: cleaned)
      text = UnsafeBufferPointer(rebasing: cleaned[..<count])
      room = UnsafeMutableBufferPointer(rebasing: scratch[..<start])
    }
    let outcome = parse(text, into: room)
    if case .written(let length, let programLength) = outcome,
      length == input.count, room[..<length].elementsEqual(input)
    {
      return .unchanged(programLength: programLength)
    }
    return outcome
  }

  /// Makes the normal form of a URI that came as the parts of a request path.
  ///
  /// Percent-escapes of `scheme` and `domain` are decoded (a run of escapes that is not UTF-8 stays as it is); `rest`
  /// is taken as it is written, but a backslash in it is a `/`, because a request path belongs to a special scheme.
  /// - Parameters:
  ///   - scheme: the path segment that names the scheme, without slashes.
  ///   - domain: the path segment after it, without slashes.
  ///   - rest: what follows, without query; with or without a leading slash; may be empty.
  ///   - scratch: at least `scratchBytes(forInputBytes:)` of the sum of the three lengths plus 4; must not overlap
  ///     the others.
  /// - Returns: never `unchanged`: the normal form is in the scratch buffer.
  public static func fromPath(
    scheme: UnsafeBufferPointer<UInt8>, domain: UnsafeBufferPointer<UInt8>, rest: UnsafeBufferPointer<UInt8>,
    into scratch: UnsafeMutableBufferPointer<UInt8>
  ) -> Outcome {
    var output = ByteWriter(scratch)
    PercentDecoding.append(scheme, to: &output)
    output.append(UInt8(ascii: ":"))
    output.append(UInt8(ascii: "/"))
    output.append(UInt8(ascii: "/"))
    PercentDecoding.append(domain, to: &output)
    if let first = rest.first, first != UInt8(ascii: "/"), first != UInt8(ascii: "\\") {
      output.append(UInt8(ascii: "/"))
    }
    for byte in rest {
      output.append(byte == UInt8(ascii: "\\") ? UInt8(ascii: "/") : byte)
    }
    guard !output.overflowed else { return .tooLong }
    let assembled = UnsafeBufferPointer(rebasing: scratch[..<output.count])
    if let programLength = NormalForm.programLength(of: assembled) {
      return .written(length: output.count, programLength: programLength)
    }
    guard UTF8Check.isValid(assembled) else { return .invalid }
    let text = trimmed(assembled)
    guard let source = text.baseAddress else { return .invalid }
    // Moved to the end, from where it is read while the output grows from the start.
    let start = scratch.count - text.count
    let tail = UnsafeMutableBufferPointer(rebasing: scratch[start...])
    tail.baseAddress?.update(from: source, count: text.count)
    let count = copyWithoutTabsAndNewlines(UnsafeBufferPointer(tail), to: tail)
    return parse(
      UnsafeBufferPointer(rebasing: tail[..<count]), into: UnsafeMutableBufferPointer(rebasing: scratch[..<start]))
  }

  private static func isTabOrNewline(_ byte: UInt8) -> Bool {
    byte == 0x09 || byte == 0x0A || byte == 0x0D
  }

  /// The text without the control characters and spaces around it.
  private static func trimmed(_ text: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8> {
    guard let first = text.firstIndex(where: { $0 > 0x20 }), let last = text.lastIndex(where: { $0 > 0x20 }) else {
      return UnsafeBufferPointer(rebasing: text[..<0])
    }
    return UnsafeBufferPointer(rebasing: text[first...last])
  }

  /// Both may be the same memory: a byte never moves to the right.
  private static func copyWithoutTabsAndNewlines(
    _ text: UnsafeBufferPointer<UInt8>, to target: UnsafeMutableBufferPointer<UInt8>
  ) -> Int {
    var count = 0
    for index in text.indices where !isTabOrNewline(text[index]) {
      target[count] = text[index]
      count += 1
    }
    return count
  }

  private static func parse(
    _ text: UnsafeBufferPointer<UInt8>, into room: UnsafeMutableBufferPointer<UInt8>
  ) -> Outcome {
    var parser = URLParser(text: text, output: ByteWriter(room))
    guard let programLength = parser.run() else { return .invalid }
    guard !parser.output.overflowed else { return .tooLong }
    return .written(length: parser.output.count, programLength: programLength)
  }
}
