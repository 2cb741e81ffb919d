import PluginAPI

/// How one segment of a URI is spelled as the name of a file or directory. Documented in docs/files.md.
///
/// A segment keeps its spelling, but `=` and what a file name cannot or should not have become `=XX`. The result, the
/// *stem*, is cut into pieces of at most `stemSizeBytesMax`; all but the last are directories of their own. A file's name
/// always has an extension and a directory's never looks like one, so that `a` and `a/b` can both be records.
enum RecordName {
  /// Leaves room for an extension, and for what a note's name adds, in the 255 bytes of a name.
  static let stemSizeBytesMax = 200
  static let escape = UInt8(ascii: "=")
  private static let dot = UInt8(ascii: ".")
  static let jsonExtension: StaticString = ".json"
  static let bytesExtension: StaticString = ".bytes"
  /// At the end of the name of a directory whose stem has a dot.
  static let directoryMark: StaticString = "="
  /// At the end of the name of a directory that holds how a long segment goes on.
  static let continuationMark: StaticString = "=+"

  // MARK: Spelling

  /// The stem of a segment, in pieces.
  static func stems(of segment: some Collection<UInt8>) -> [[UInt8]] {
    // Nothing cannot be a name, and a bare `=` is not how anything else begins.
    if segment.isEmpty { return [[escape]] }
    var pieces: [[UInt8]] = []
    var piece: [UInt8] = []
    piece.reserveCapacity(segment.count)
    for byte in segment {
      var isRaw = isRaw(byte, isFirst: piece.isEmpty)
      if piece.count + (isRaw ? 1 : 3) > stemSizeBytesMax {
        pieces.append(piece)
        piece.removeAll(keepingCapacity: true)
        isRaw = self.isRaw(byte, isFirst: true)
      }
      if isRaw {
        piece.append(byte)
      } else {
        piece.append(contentsOf: [escape, hexDigit(byte >> 4), hexDigit(byte & 15)])
      }
    }
    pieces.append(piece)
    return pieces
  }

  /// Whether a byte stands for itself. A name that begins with a dot is hidden and none of ours.
  private static func isRaw(_ byte: UInt8, isFirst: Bool) -> Bool {
    switch byte {
    case escape, UInt8(ascii: "/"), UInt8(ascii: "#"): false
    case dot: !isFirst
    default: byte > 0x20 && byte < 0x7f
    }
  }

  private static func hexDigit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x37 + value }

  /// The name of the file that holds a record.
  static func file(_ stem: some BidirectionalCollection<UInt8>, _ content: Content) -> [UInt8] {
    switch content {
    case .json: stem + jsonExtension.bytes
    case .bytes: isName(stem) ? Array(stem) : stem + bytesExtension.bytes
    }
  }

  /// Whether the stem of bytes can be the file's name as it is, so that `logo.png` is `logo.png`: it has an extension
  /// that is not one of ours, and does not look like an editor's backup.
  private static func isName(_ stem: some BidirectionalCollection<UInt8>) -> Bool {
    guard let dot = stem.lastIndex(of: dot), dot != stem.startIndex, stem.last != UInt8(ascii: "~") else {
      return false
    }
    let tail = stem[dot...]
    return tail.count > 1 && !tail.elementsEqual(jsonExtension.bytes) && !tail.elementsEqual(bytesExtension.bytes)
  }

  /// The name of a directory: for the records below a segment, or for how a long segment goes on.
  static func directory(_ stem: some Collection<UInt8>, isContinuation: Bool) -> [UInt8] {
    if isContinuation { return stem + continuationMark.bytes }
    return stem.contains(dot) ? stem + directoryMark.bytes : Array(stem)
  }

  // MARK: Reading

  /// The stem and content that the name of a file stands for, or nil: it is no record's.
  static func record(in name: BorrowedBytes) -> (stemCount: Int, content: Content)? {
    guard let dot = name.lastIndex(of: dot), dot > 0 else { return nil }
    let tail = name[dot...]
    let content: Content = tail.elementsEqual(jsonExtension.bytes) ? .json : .bytes
    let isMarked = content == .json || tail.elementsEqual(bytesExtension.bytes)
    let stem = BorrowedBytes(rebasing: isMarked ? name[..<dot] : name[...])
    guard isStem(stem) else { return nil }
    // One file for each record: bytes whose stem is a name have no mark, and others have one.
    if content == .bytes, isName(stem) == isMarked { return nil }
    return (stem.count, content)
  }

  /// The stem that the name of a directory stands for, or nil: it holds no records.
  static func directory(in name: BorrowedBytes) -> (stemCount: Int, isContinuation: Bool)? {
    if name.count == 1, name[0] == escape { return (1, false) }
    let isContinuation = name.hasSuffix(continuationMark)
    let isMarked = isContinuation || name.hasSuffix(directoryMark)
    let count = name.count - (isContinuation ? 2 : isMarked ? 1 : 0)
    let stem = BorrowedBytes(rebasing: name[..<count])
    guard isStem(stem) else { return nil }
    if !isContinuation, stem.contains(dot) != isMarked { return nil }
    return (count, isContinuation)
  }

  /// Whether the bytes are the one spelling of a piece.
  private static func isStem(_ stem: BorrowedBytes) -> Bool {
    if stem.count == 1, stem[0] == escape { return true }
    guard !stem.isEmpty, stem.count <= stemSizeBytesMax else { return false }
    var index = 0
    while index < stem.count {
      if stem[index] == escape {
        guard index + 2 < stem.count, let byte = unescaped(stem, at: index), !isRaw(byte, isFirst: index == 0) else {
          return false
        }
        index += 3
      } else {
        guard isRaw(stem[index], isFirst: index == 0) else { return false }
        index += 1
      }
    }
    return true
  }

  /// Whether a piece can follow one of `count` bytes: a canonical cut is made only where the next byte does not fit.
  static func continues(_ stem: BorrowedBytes, after count: Int) -> Bool {
    guard let first = stem.first, stem.count > 1 || first != escape else { return false }
    let isEscaped = first == escape && unescaped(stem, at: 0) != dot
    return count + (isEscaped ? 3 : 1) > stemSizeBytesMax
  }

  /// Appends the bytes of the segment that a stem spells.
  static func append(_ stem: BorrowedBytes, to text: inout [UInt8]) {
    if stem.count == 1, stem[0] == escape { return }
    var index = 0
    while index < stem.count {
      if stem[index] == escape, let byte = unescaped(stem, at: index) {
        text.append(byte)
        index += 3
      } else {
        text.append(stem[index])
        index += 1
      }
    }
  }

  private static func unescaped(_ stem: BorrowedBytes, at index: Int) -> UInt8? {
    func digit(_ byte: UInt8) -> UInt8? {
      switch byte {
      case 0x30...0x39: byte - 0x30
      case 0x41...0x46: byte - 0x37
      default: nil
      }
    }
    guard let high = digit(stem[index + 1]), let low = digit(stem[index + 2]) else { return nil }
    return high << 4 | low
  }
}

extension StaticString {
  var bytes: BorrowedBytes { BorrowedBytes(start: utf8Start, count: utf8CodeUnitCount) }
}

extension BorrowedBytes {
  func hasSuffix(_ text: StaticString) -> Bool { suffix(text.utf8CodeUnitCount).elementsEqual(text.bytes) }
}

func + (left: some Collection<UInt8>, right: BorrowedBytes) -> [UInt8] {
  var bytes = Array(left)
  bytes.append(contentsOf: right)
  return bytes
}
