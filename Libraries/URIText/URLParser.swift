/// The full way: the WHATWG URL parser without a base URL, writing only what the normal form keeps.
///
/// Source: https://url.spec.whatwg.org/#url-parsing. State names are those of the standard.
struct URLParser {
  /// Valid UTF-8, trimmed, without tabs and newlines.
  let text: UnsafeBufferPointer<UInt8>
  var output: ByteWriter
  private var index = 0
  private var isSpecial = false
  private var isFile = false

  init(text: UnsafeBufferPointer<UInt8>, output: ByteWriter) {
    self.text = text
    self.output = output
  }

  /// - Returns: the length of the program, or nil when the text is no URL. Meaningless if the output overflowed.
  mutating func run() -> Int? {
    guard parseScheme() else { return nil }
    if isFile {
      return parseFile()
    }
    if isSpecial {
      while let byte = current, isSlash(byte) { index += 1 }
      guard parseAuthority() else { return nil }
      let programLength = output.count
      parsePath(from: programLength)
      return programLength
    }
    if current == UInt8(ascii: "/"), index + 1 < text.count, text[index + 1] == UInt8(ascii: "/") {
      index += 2
      guard parseAuthority() else { return nil }
    } else if current != UInt8(ascii: "/") {
      return parseOpaquePath()
    }
    let programLength = output.count
    parsePath(from: programLength)
    return programLength
  }

  private var current: UInt8? { index < text.count ? text[index] : nil }

  private func isSlash(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "/") || (isSpecial && byte == UInt8(ascii: "\\"))
  }

  private func isQueryOrFragment(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "?") || byte == UInt8(ascii: "#")
  }

  /// "scheme start state" and "scheme state"; writes the scheme and `://`.
  private mutating func parseScheme() -> Bool {
    guard let first = text.first, ByteClass.isLetter(first) else { return false }
    while let byte = current, byte != UInt8(ascii: ":") {
      guard ByteClass.isSchemeTail(byte) else { return false }
      output.append(ByteClass.lowered(byte))
      index += 1
    }
    guard current != nil else { return false }
    index += 1
    let scheme = output.written[...]
    isSpecial = SpecialScheme.isSpecial(scheme)
    isFile = SpecialScheme.isFile(scheme)
    output.append(UInt8(ascii: ":"))
    output.append(UInt8(ascii: "/"))
    output.append(UInt8(ascii: "/"))
    return true
  }

  /// "authority state", "host state" and "port state"; writes the host.
  private mutating func parseAuthority() -> Bool {
    var end = index
    var hostStart = index
    while end < text.count, !isSlash(text[end]), !isQueryOrFragment(text[end]) {
      if text[end] == UInt8(ascii: "@") { hostStart = end + 1 }
      end += 1
    }
    let hasUserinfo = hostStart > index
    var hostEnd = hostStart
    var insideBrackets = false
    while hostEnd < end, insideBrackets || text[hostEnd] != UInt8(ascii: ":") {
      if text[hostEnd] == UInt8(ascii: "[") { insideBrackets = true }
      if text[hostEnd] == UInt8(ascii: "]") { insideBrackets = false }
      hostEnd += 1
    }
    index = end
    if hostEnd == hostStart, hasUserinfo || isSpecial || hostEnd < end { return false }
    if hostEnd < end, !isPort(text[(hostEnd + 1)..<end]) { return false }
    return HostParser.write(text[hostStart..<hostEnd], isSpecial: isSpecial, to: &output)
  }

  private func isPort(_ digits: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    var port = 0
    for byte in digits {
      guard ByteClass.isDigit(byte) else { return false }
      port = port * 10 + Int(byte - 0x30)
      if port > 65535 { return false }
    }
    return true
  }

  /// "file state", "file slash state" and "file host state".
  private mutating func parseFile() -> Int? {
    if let byte = current, isSlash(byte) {
      index += 1
      if let next = current, isSlash(next) {
        index += 1
        var end = index
        while end < text.count, !isSlash(text[end]), !isQueryOrFragment(text[end]) { end += 1 }
        // A drive letter in the host's place is the first segment of the path.
        if !isDriveLetter(text[index..<end]) {
          let hostStart = output.count
          if index < end, !HostParser.write(text[index..<end], isSpecial: true, to: &output) { return nil }
          index = end
          if output.written[hostStart...].elementsEqual("localhost".utf8) { output.truncate(to: hostStart) }
        }
      }
    }
    let programLength = output.count
    parsePath(from: programLength)
    return programLength
  }

  private func isDriveLetter(_ segment: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    guard segment.count == 2, let first = segment.first, let last = segment.last else { return false }
    return ByteClass.isLetter(first) && (last == UInt8(ascii: ":") || last == UInt8(ascii: "|"))
  }

  /// "opaque path state". The reference drops the first character of such a path and splits the rest; so does this.
  private mutating func parseOpaquePath() -> Int {
    let programLength = output.count
    guard let first = current, !isQueryOrFragment(first) else { return programLength }
    index += 1
    output.append(UInt8(ascii: "/"))
    if first >= 0x7F || first < 0x20 {
      // Its first character is the `%` of an escape: the two digits stay.
      let percent = output.count
      output.appendEscaped(first)
      if !output.overflowed {
        output[percent] = output[percent + 1]
        output[percent + 1] = output[percent + 2]
        output.truncate(to: percent + 2)
      }
    }
    parseSegments(from: programLength)
    return programLength
  }

  /// "path start state" and "path state".
  private mutating func parsePath(from pathStart: Int) {
    guard let first = current, !isQueryOrFragment(first) else { return }
    if isSlash(first) { index += 1 }
    output.append(UInt8(ascii: "/"))
    parseSegments(from: pathStart)
  }

  /// Reads the rest of the path; the output ends with the slash before the segment to come. Empty segments are kept
  /// until the end, because `..` removes one of them like any other.
  private mutating func parseSegments(from pathStart: Int) {
    var segmentStart = output.count
    // What an opaque path has written already belongs to its first segment.
    while segmentStart > pathStart, output.written[segmentStart - 1] != UInt8(ascii: "/") { segmentStart -= 1 }
    while true {
      let byte = current
      let isEnd = byte.map(isQueryOrFragment) ?? true
      if let byte, !isEnd, !isSlash(byte) {
        if ByteClass.pathSegment.contains(byte) { output.append(byte) } else { output.appendEscaped(byte) }
        index += 1
        continue
      }
      if output.overflowed { return }
      endSegment(from: segmentStart, pathStart: pathStart)
      if isEnd { break }
      index += 1
      output.append(UInt8(ascii: "/"))
      segmentStart = output.count
    }
    if output.overflowed { return }
    collapseEmptySegments(from: pathStart)
  }

  /// Resolves the segment just written if it is a dot segment. Afterwards the output ends with a complete segment
  /// (or is empty), and a slash is to follow.
  private mutating func endSegment(from segmentStart: Int, pathStart: Int) {
    let written = output.written
    switch DotSegment.kind(written[segmentStart...]) {
    case .none:
      if isFile, segmentStart == pathStart + 1, isDriveLetter(written[segmentStart...]) {
        output[segmentStart + 1] = UInt8(ascii: ":")
      }
    case .single:
      output.truncate(to: segmentStart - 1)
    case .double:
      var end = segmentStart - 1
      let isOnlyDrive = isFile && end == pathStart + 3 && isDriveLetter(written[(pathStart + 1)..<end])
      if !isOnlyDrive, end > pathStart {
        repeat { end -= 1 } while written[end] != UInt8(ascii: "/")
      }
      output.truncate(to: end)
    }
  }

  private mutating func collapseEmptySegments(from pathStart: Int) {
    var target = pathStart
    let end = output.count
    for source in pathStart..<end {
      let isEmpty =
        output[source] == UInt8(ascii: "/") && (source + 1 == end || output[source + 1] == UInt8(ascii: "/"))
      if isEmpty { continue }
      output[target] = output[source]
      target += 1
    }
    output.truncate(to: target)
    // A drive letter that came first only now would otherwise change when the normal form is normalised again.
    if isFile, target >= pathStart + 3, target == pathStart + 3 || output[pathStart + 3] == UInt8(ascii: "/"),
      isDriveLetter(output.written[(pathStart + 1)..<(pathStart + 3)])
    {
      output[pathStart + 2] = UInt8(ascii: ":")
    }
  }
}
