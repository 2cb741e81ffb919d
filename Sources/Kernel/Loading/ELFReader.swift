/// A reader of 64-bit little-endian ELF files that trusts nothing in them.
///
/// Every access is checked against the size of the file, every sum for overflow, and every loop is bounded by the size of
/// the file, so that any sequence of bytes gives an image or a defect and never a trap. It reads what the dynamic loader
/// would read (program headers and the dynamic section) and turns to section headers only where that is silent.
///
/// Source of the layout: the System V ABI, gABI 4.1, and the GNU extensions of <elf.h>.
public struct ELFReader {
  /// A manifest may not be larger than this (boundary.md, "JSON and YAML in the kernel").
  public static let manifestSizeBytesMax = 64 * 1_024
  /// More than the linker would ever write; keeps a hostile file from making a list of its own size.
  static let neededLibrariesMax = 1_024

  private let bytes: UnsafeRawBufferPointer
  private var size: UInt64 { UInt64(bytes.count) }

  private struct Segment {
    let type: UInt32
    let flags: UInt32
    let offset: UInt64
    let address: UInt64
    let fileSize: UInt64
    let alignment: UInt64
  }

  private struct Section {
    let nameOffset: UInt32
    let type: UInt32
    let offset: UInt64
    let size: UInt64
    let link: UInt32
  }

  private struct Dynamic {
    var neededOffsets: [UInt64] = []
    var flags: UInt64 = 0
    var flags1: UInt64 = 0
    var textRelocations = false
    var stringTable: UInt64?
    var stringTableSize: UInt64 = 0
    var symbolTable: UInt64?
    var hash: UInt64?
    var gnuHash: UInt64?
  }

  private struct SymbolTable {
    let offset: UInt64
    let count: UInt64
  }

  private struct StringTable {
    let offset: UInt64
    let size: UInt64
  }

  /// Reads the whole image. The bytes are borrowed for the call only.
  /// - Parameter entry: name of the function whose export is to be reported.
  public static func read(_ bytes: UnsafeRawBufferPointer, entry: String) throws(ELFDefect) -> ELFImage {
    try ELFReader(bytes: bytes).image(entry: entry)
  }

  /// The same for bytes in an array.
  public static func read(_ bytes: [UInt8], entry: String) throws(ELFDefect) -> ELFImage {
    // `withUnsafeBytes` does not carry typed errors through, so the outcome travels as a value.
    let outcome: Result<ELFImage, ELFDefect> = bytes.withUnsafeBytes { raw in
      do throws(ELFDefect) { return .success(try read(raw, entry: entry)) } catch { return .failure(error) }
    }
    return try outcome.get()
  }

  private init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  private func image(entry: String) throws(ELFDefect) -> ELFImage {
    try checkIdentity()
    guard size >= 64 else { throw incomplete("the ELF header", end: 64) }
    var image = ELFImage(machine: word16(18)!, type: word16(16)!)
    // Segments and sections are checked against the size first: a file that is still being written must be called
    // incomplete, and not whatever its missing half would otherwise look like.
    let segments = try readSegments()
    let sections = try readSections()
    guard image.type == 3 else { return image }
    if let stack = segments.first(where: { $0.type == Self.segmentGNUStack }) {
      image.wantsExecutableStack = stack.flags & 1 != 0
    }
    image.manifest = try manifest(segments: segments, sections: sections)
    let dynamic = try readDynamic(segments)
    image.usesStaticTLS = dynamic.flags & 0x10 != 0
    image.hasTextRelocations = dynamic.textRelocations || dynamic.flags & 0x4 != 0
    image.isExecutableProgram = dynamic.flags1 & 0x0800_0000 != 0
    let strings = try stringTable(dynamic, segments)
    for offset in dynamic.neededOffsets {
      guard let name = text(strings, at: offset) else {
        throw .malformed("the name of a needed library lies outside its string table")
      }
      image.neededLibraries.append(name)
    }
    if let symbols = try symbolTable(dynamic, segments, sections) {
      scan(symbols, strings, entry: Array(entry.utf8), into: &image)
    }
    return image
  }

  // MARK: Header, segments, sections

  private static let segmentLoad: UInt32 = 1
  private static let segmentDynamic: UInt32 = 2
  private static let segmentNote: UInt32 = 4
  private static let segmentGNUStack: UInt32 = 0x6474_e551
  private static let sectionNoBits: UInt32 = 8
  private static let sectionDynamicSymbols: UInt32 = 11

  private func checkIdentity() throws(ELFDefect) {
    let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46]
    guard bytes.prefix(4).elementsEqual(magic.prefix(bytes.count)) else { throw .notELF }
    guard size >= 16 else { throw incomplete("the ELF header", end: 64) }
    switch bytes[4] {
    case 2: break
    case 1: throw .unsupportedFormat("a 32-bit ELF file")
    default: throw .malformed("its ELF class is \(bytes[4]), which does not exist")
    }
    switch bytes[5] {
    case 1: break
    case 2: throw .unsupportedFormat("a big-endian ELF file")
    default: throw .malformed("its ELF byte order is \(bytes[5]), which does not exist")
    }
    guard bytes[6] == 1 else { throw .malformed("its ELF version is \(bytes[6]) where only 1 exists") }
  }

  private func readSegments() throws(ELFDefect) -> [Segment] {
    let table = word64(32)!
    let entrySize = UInt64(word16(54)!)
    let count = UInt64(word16(56)!)
    guard count > 0 else { throw .malformed("it has no program headers, so it cannot be loaded") }
    // 0xffff means "more, see section 0" (PN_XNUM): no shared library needs that many.
    guard count < 0xffff else { throw .malformed("it has more program headers than a shared library can need") }
    guard entrySize == 56 else { throw .malformed("its program headers are \(entrySize) bytes each and not 56") }
    try checkInside("the program headers", table, entrySize * count)
    var segments: [Segment] = []
    segments.reserveCapacity(Int(count))
    for index in 0..<count {
      let at = table + index * entrySize
      let segment = Segment(
        type: word32(at)!, flags: word32(at + 4)!, offset: word64(at + 8)!, address: word64(at + 16)!,
        fileSize: word64(at + 32)!, alignment: word64(at + 48)!)
      if segment.fileSize > 0 { try checkInside("segment \(index)", segment.offset, segment.fileSize) }
      segments.append(segment)
    }
    return segments
  }

  private func readSections() throws(ELFDefect) -> [Section] {
    let table = word64(40)!
    let entrySize = UInt64(word16(58)!)
    let count = UInt64(word16(60)!)
    guard table > 0 else { return [] }
    if count == 0 {
      // Either there are none (stripped of them) or there are 65280 or more; the table's first entry would then tell.
      try checkInside("the section headers", table, 0)
      return []
    }
    guard entrySize == 64 else { throw .malformed("its section headers are \(entrySize) bytes each and not 64") }
    try checkInside("the section headers", table, entrySize * count)
    var sections: [Section] = []
    sections.reserveCapacity(Int(count))
    for index in 0..<count {
      let at = table + index * entrySize
      let section = Section(
        nameOffset: word32(at)!, type: word32(at + 4)!, offset: word64(at + 24)!, size: word64(at + 32)!,
        link: word32(at + 40)!)
      // Type 0 (unused) carries no bytes; neither does NOBITS, whose size is one in memory.
      if section.type != 0, section.type != Self.sectionNoBits {
        try checkInside("section \(index)", section.offset, section.size)
      }
      sections.append(section)
    }
    return sections
  }

  // MARK: The note

  /// Through PT_NOTE, and where no such segment has it, through the section `.note.backplane`.
  private func manifest(segments: [Segment], sections: [Section]) throws(ELFDefect) -> [UInt8]? {
    var found: (offset: UInt64, size: UInt64)?
    for segment in segments where segment.type == Self.segmentNote {
      // Some linkers put notes of both alignments into one segment and mark it 8; ours is 4-aligned in any case.
      for alignment: UInt64 in segment.alignment == 8 ? [4, 8] : [4] {
        try collectNotes(segment.offset, segment.fileSize, alignment, into: &found)
      }
    }
    if found == nil, case let nameSection = UInt64(word16(62)!), nameSection < UInt64(sections.count) {
      let names = sections[Int(nameSection)]
      if names.type != Self.sectionNoBits, names.type != 0 {
        let table = StringTable(offset: names.offset, size: names.size)
        for section in sections where section.type != Self.sectionNoBits && section.type != 0 {
          guard matches(table, at: UInt64(section.nameOffset), Self.noteSectionName) else { continue }
          try collectNotes(section.offset, section.size, 4, into: &found)
        }
      }
    }
    guard let found else { return nil }
    guard found.size <= UInt64(Self.manifestSizeBytesMax) else { throw .manifestTooLarge(sizeBytes: found.size) }
    return Array(bytes[Int(found.offset)..<Int(found.offset + found.size)])
  }

  private static let noteName = Array("Backplane\0".utf8)
  private static let noteSectionName = Array(".note.backplane".utf8)

  /// Walks Elf64_Nhdr records in a range that is already known to lie inside the file. A record that does not fit ends
  /// the walk: foreign notes may be anything, and only ours is of interest.
  private func collectNotes(
    _ offset: UInt64, _ length: UInt64, _ alignment: UInt64, into found: inout (offset: UInt64, size: UInt64)?
  ) throws(ELFDefect) {
    let end = offset + length
    var at = offset
    while end - at >= 12, let nameSize = word32(at), let contentSize = word32(at + 4), let type = word32(at + 8) {
      // Three 32-bit sizes added to an offset inside a file that is in memory: no overflow is possible.
      let content = offset + padded(at + 12 + UInt64(nameSize) - offset, alignment)
      let contentEnd = content + UInt64(contentSize)
      let isOurs =
        type == 1 && nameSize == 10 && at + 22 <= end && bytes[Int(at + 12)..<Int(at + 22)].elementsEqual(Self.noteName)
      guard contentEnd <= end else {
        if isOurs { throw .malformed("its Backplane note is longer than the segment that holds it") }
        return
      }
      if isOurs {
        if let earlier = found, earlier.offset != content { throw .malformed("it carries two Backplane notes") }
        found = (content, UInt64(contentSize))
      }
      at = offset + padded(contentEnd - offset, alignment)
      guard at <= end else { return }
    }
  }

  private func padded(_ length: UInt64, _ alignment: UInt64) -> UInt64 { (length + alignment - 1) & ~(alignment - 1) }

  // MARK: The dynamic section

  private func readDynamic(_ segments: [Segment]) throws(ELFDefect) -> Dynamic {
    guard let segment = segments.first(where: { $0.type == Self.segmentDynamic }), segment.fileSize > 0 else {
      throw .malformed("it has no dynamic section, so it is not a shared library that can be opened")
    }
    var dynamic = Dynamic()
    for index in 0..<(segment.fileSize / 16) {
      let at = segment.offset + index * 16
      guard let tag = word64(at), let value = word64(at + 8) else { break }
      switch tag {
      case 0: return dynamic
      case 1:
        guard dynamic.neededOffsets.count < Self.neededLibrariesMax else {
          throw .malformed("it needs more than \(Self.neededLibrariesMax) libraries")
        }
        dynamic.neededOffsets.append(value)
      case 4: dynamic.hash = value
      case 5: dynamic.stringTable = value
      case 6: dynamic.symbolTable = value
      case 10: dynamic.stringTableSize = value
      case 22: dynamic.textRelocations = true
      case 30: dynamic.flags = value
      case 0x6fff_fef5: dynamic.gnuHash = value
      case 0x6fff_fffb: dynamic.flags1 = value
      default: break
      }
    }
    return dynamic
  }

  private func stringTable(_ dynamic: Dynamic, _ segments: [Segment]) throws(ELFDefect) -> StringTable {
    guard let address = dynamic.stringTable, let place = fileRange(of: address, segments),
      dynamic.stringTableSize <= place.available
    else { throw .malformed("its dynamic string table lies outside its segments") }
    return StringTable(offset: place.offset, size: dynamic.stringTableSize)
  }

  /// Where the symbols are and how many: by the hash tables, as the loader finds them, else by the section headers.
  private func symbolTable(
    _ dynamic: Dynamic, _ segments: [Segment], _ sections: [Section]
  ) throws(ELFDefect) -> SymbolTable? {
    guard let address = dynamic.symbolTable, let place = fileRange(of: address, segments) else {
      throw .malformed("its dynamic symbol table lies outside its segments")
    }
    var count: UInt64?
    if let hash = dynamic.hash, let table = fileRange(of: hash, segments), table.available >= 8 {
      count = word32(table.offset + 4).map(UInt64.init)
    }
    if count == nil, let hash = dynamic.gnuHash, let table = fileRange(of: hash, segments) {
      count = symbolCount(gnuHash: table.offset, end: table.offset + table.available)
    }
    if count == nil {
      count = sections.first { $0.type == Self.sectionDynamicSymbols && $0.offset == place.offset }.map { $0.size / 24 }
    }
    guard let count else { return nil }
    guard count <= place.available / 24 else {
      throw .malformed("its dynamic symbol table is longer than the segment that holds it")
    }
    return SymbolTable(offset: place.offset, count: count)
  }

  /// A GNU hash table does not say how many symbols there are: it is one more than the last index of the longest chain.
  private func symbolCount(gnuHash offset: UInt64, end: UInt64) -> UInt64? {
    guard end - offset >= 16, let buckets = word32(offset), let firstHashed = word32(offset + 4),
      let bloomWords = word32(offset + 8)
    else { return nil }
    let bucketsAt = offset + 16 + UInt64(bloomWords) * 8
    let chainsAt = bucketsAt + UInt64(buckets) * 4
    guard chainsAt <= end else { return nil }
    var last: UInt64 = 0
    for index in 0..<UInt64(buckets) { last = max(last, UInt64(word32(bucketsAt + index * 4) ?? 0)) }
    guard last >= UInt64(firstHashed), last > 0 else { return UInt64(firstHashed) }
    while true {
      let at = chainsAt + (last - UInt64(firstHashed)) * 4
      guard at + 4 <= end, let link = word32(at) else { return nil }
      last += 1
      if link & 1 != 0 { return last }
    }
  }

  private func scan(_ symbols: SymbolTable, _ strings: StringTable, entry: [UInt8], into image: inout ELFImage) {
    for index in 0..<symbols.count {
      let at = symbols.offset + index * 24
      guard let name = word32(at), let section = word16(at + 6) else { return }
      let info = bytes[Int(at + 4)]
      let visibility = bytes[Int(at + 5)] & 3
      let binding = info >> 4
      if binding == 10, section != 0, image.uniqueSymbol == nil {
        image.uniqueSymbol = text(strings, at: UInt64(name)) ?? "?"
      }
      let isVisible = visibility == 0 || visibility == 3
      let isFunction = info & 0xf == 2
      if !image.exportsEntry, section != 0, binding == 1 || binding == 2, isFunction, isVisible,
        matches(strings, at: UInt64(name), entry)
      {
        image.exportsEntry = true
      }
    }
  }

  // MARK: Checked access

  /// The place in the file of a virtual address, and how many bytes of its segment follow.
  private func fileRange(of address: UInt64, _ segments: [Segment]) -> (offset: UInt64, available: UInt64)? {
    for segment in segments where segment.type == Self.segmentLoad && address >= segment.address {
      let delta = address - segment.address
      if delta < segment.fileSize { return (segment.offset + delta, segment.fileSize - delta) }
    }
    return nil
  }

  private func matches(_ table: StringTable, at offset: UInt64, _ name: [UInt8]) -> Bool {
    let length = UInt64(name.count)
    guard offset < table.size, table.size - offset > length else { return false }
    let start = Int(table.offset + offset)
    return bytes[start..<(start + name.count)].elementsEqual(name) && bytes[start + name.count] == 0
  }

  private func text(_ table: StringTable, at offset: UInt64) -> String? {
    guard offset < table.size else { return nil }
    let rest = bytes[Int(table.offset + offset)..<Int(table.offset + table.size)].prefix(4_096)
    guard let end = rest.firstIndex(of: 0) else { return nil }
    return String(decoding: rest[..<end], as: UTF8.self)
  }

  private func checkInside(_ what: String, _ offset: UInt64, _ length: UInt64) throws(ELFDefect) {
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard !overflow else { throw .malformed("the place of \(what) is beyond any file") }
    guard end <= size else { throw incomplete(what, end: end) }
  }

  private func incomplete(_ what: String, end: UInt64) -> ELFDefect {
    .incomplete(what: what, endsAtBytes: end, sizeBytes: size)
  }

  private func word16(_ offset: UInt64) -> UInt16? { load(offset) }
  private func word32(_ offset: UInt64) -> UInt32? { load(offset) }
  private func word64(_ offset: UInt64) -> UInt64? { load(offset) }

  private func load<Word: FixedWidthInteger>(_ offset: UInt64) -> Word? {
    let width = UInt64(MemoryLayout<Word>.size)
    guard size >= width, offset <= size - width else { return nil }
    return Word(littleEndian: bytes.loadUnaligned(fromByteOffset: Int(offset), as: Word.self))
  }
}
