import Foundation

/// Names for addresses in an ELF file, by its symbol table: for the report of a crash, whose image is not mapped any more.
/// As the reader of plugins it trusts nothing in the file.
struct ELFSymbols {
  private let data: Data
  private static let entryBytes = 24
  private static let functionType: UInt8 = 2

  /// Nil when the file cannot be read or is no ELF file of 64 bits.
  init?(path: String) {
    guard let data = try? Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe),
      data.count >= 64, data.prefix(6).elementsEqual([0x7f, 0x45, 0x4c, 0x46, 2, 1])
    else { return nil }
    self.data = data
  }

  private func word<T: FixedWidthInteger>(_ offset: UInt64, _ type: T.Type) -> T? {
    let size = UInt64(MemoryLayout<T>.size)
    guard offset <= UInt64(data.count), UInt64(data.count) - offset >= size else { return nil }
    return data.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: Int(offset), as: T.self)) }
  }

  private struct Section {
    let type: UInt32
    let offset: UInt64
    let size: UInt64
    let link: UInt32
  }

  private func section(_ index: UInt64) -> Section? {
    guard let table = word(40, UInt64.self), let stride = word(58, UInt16.self), stride >= 64,
      let count = word(60, UInt16.self), index < UInt64(count)
    else { return nil }
    let (start, isOver) = table.addingReportingOverflow(index * UInt64(stride))
    guard !isOver, let type = word(start &+ 4, UInt32.self), let offset = word(start &+ 24, UInt64.self),
      let size = word(start &+ 32, UInt64.self), let link = word(start &+ 40, UInt32.self),
      offset <= UInt64(data.count),
      size <= UInt64(data.count) - offset
    else { return nil }
    return Section(type: type, offset: offset, size: size, link: link)
  }

  /// The function that holds an address of the file, and how far into it; nil when the file does not say (a stripped
  /// plugin names its entry alone).
  func function(at address: UInt64) -> (name: String, offset: UInt64)? {
    var index: UInt64 = 0
    var tables: [Section] = []
    while let found = section(index) {
      // The full table first, then the dynamic one.
      if found.type == 2 { tables.insert(found, at: 0) }
      if found.type == 11 { tables.append(found) }
      index += 1
    }
    for table in tables {
      guard let strings = section(UInt64(table.link)) else { continue }
      for place in 0..<table.size / UInt64(ELFSymbols.entryBytes) {
        let start = table.offset + place * UInt64(ELFSymbols.entryBytes)
        guard let kind = word(start + 4, UInt8.self), kind & 0xf == ELFSymbols.functionType,
          let value = word(start + 8, UInt64.self), let size = word(start + 16, UInt64.self), address >= value,
          address - value < size, let name = word(start, UInt32.self), UInt64(name) < strings.size
        else { continue }
        let first = Int(strings.offset + UInt64(name))
        let bytes = data[(data.startIndex + first)..<(data.startIndex + Int(strings.offset + strings.size))]
          .prefix(512).prefix { $0 != 0 }
        return (Wording.printable(String(decoding: bytes, as: UTF8.self), lengthMax: 200), address - value)
      }
    }
    return nil
  }
}
