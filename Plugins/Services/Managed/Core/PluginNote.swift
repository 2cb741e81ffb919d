import JSONText

/// Who a plugin file says it is: the note `Backplane` of an ELF file, read without running a line of it. Whether the file
/// is fit to be loaded the kernel decides; this is for names and for a warning.
struct PluginNote: Equatable, Sendable {
  var id: String
  var version: String

  /// Nil when the bytes are no 64-bit ELF file with such a note.
  init?(_ file: [UInt8]) {
    let found = file.withUnsafeBytes { file -> (String, String)? in
      guard let json = Self.note(in: file), case .success(let value) = JSONScanner(depthMax: 64).scan(json),
        let id = value.member("id")?.text, let version = value.member("version")?.text
      else { return nil }
      return (id, version)
    }
    // The id becomes the name of a file.
    guard let found, !found.0.isEmpty, found.0.utf8.count <= 128, found.0.utf8.first != UInt8(ascii: "."),
      found.0.utf8.allSatisfy({
        (0x30...0x39).contains($0) || (0x61...0x7A).contains($0 | 0x20) || $0 == UInt8(ascii: ".")
          || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
      })
    else { return nil }
    (id, version) = found
  }

  private static func note(in file: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard file.count >= 64, file.prefix(6).elementsEqual([0x7F, 0x45, 0x4C, 0x46, 2, 1]),
      let table = number(file, 32, 8), let size = number(file, 54, 2), let count = number(file, 56, 2), size >= 56
    else { return nil }
    for index in 0..<count {
      let (offset, isTooFar) = table.addingReportingOverflow(index * size)
      // PT_NOTE
      guard !isTooFar, let type = number(file, offset, 4) else { return nil }
      guard type == 4, let start = number(file, offset + 8, 8), let length = number(file, offset + 32, 8),
        start <= file.count, length <= file.count - start
      else { continue }
      if let json = note(inSegment: UnsafeRawBufferPointer(rebasing: file[start..<(start + length)])) { return json }
    }
    return nil
  }

  private static func note(inSegment segment: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    var place = 0
    while let nameSize = number(segment, place, 4), let size = number(segment, place + 4, 4),
      let type = number(segment, place + 8, 4)
    {
      let name = place + 12
      let data = name + (nameSize + 3) / 4 * 4
      guard data <= segment.count, size <= segment.count - data, nameSize <= segment.count - name else { return nil }
      if type == 1, nameSize == 10, segment[name..<(name + 9)].elementsEqual("Backplane".utf8), size <= 64 << 10 {
        return UnsafeRawBufferPointer(rebasing: segment[data..<(data + size)])
      }
      place = data + (size + 3) / 4 * 4
    }
    return nil
  }

  /// A little-endian number that is no larger than a file may be.
  private static func number(_ bytes: UnsafeRawBufferPointer, _ offset: Int, _ size: Int) -> Int? {
    guard offset >= 0, offset <= bytes.count - size else { return nil }
    var value: UInt64 = 0
    for index in (0..<size).reversed() { value = value << 8 | UInt64(bytes[offset + index]) }
    return value <= UInt64(Int32.max) ? Int(value) : nil
  }
}
