import PluginAPI

/// The entry struct, before any instance.
struct EntryChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  /// False: nothing else can be asked.
  func run() async -> Bool {
    let entry = bench.plugin.entry
    let isWellFormed = await bench.recording.check("entry.well-formed") {
      let value = entry.pointee
      try require(
        value.size >= UInt32.size(of: bp_entry.self),
        "bp_entry.size is \(value.size); the struct has \(MemoryLayout<bp_entry>.size) bytes")
      try require(
        value.abi_major == BP_ABI_MAJOR && value.abi_minor == BP_ABI_MINOR,
        "it was built for ABI \(value.abi_major).\(value.abi_minor), this is \(BP_ABI_MAJOR).\(BP_ABI_MINOR)")
      try require(value.create != nil, "bp_entry.create is NULL")
      try require(value.kinds_count > 0 && value.kinds != nil, "it names no kind")
      let kinds = bench.plugin.kinds
      try require(Set(kinds).count == kinds.count, "a kind is named twice: \(kinds)")
      for (what, text) in [("id", value.id.text), ("version", value.version.text)] {
        try require(!text.isEmpty && !text.contains("\0"), "the entry's \(what) is '\(text)'")
      }
      return "\(value.id.text) \(value.version.text)"
    }
    guard isWellFormed else { return false }
    await bench.recording.check("entry.pure") {
      let before = EntryPicture(entry)
      for _ in 0..<3 {
        let host = try bench.created()
        host.destroy()
        if let again = bench.plugin.entryAgain {
          try require(again() == entry, "\(BP_ENTRY_SYMBOL)() returned another address at another call")
        }
      }
      try require(EntryPicture(entry) == before, "making instances changed the entry, which is a constant")
      return ""
    }
    return true
  }
}

private struct EntryPicture: Equatable {
  private let bytes: [UInt8]
  private let texts: [String]

  init(_ entry: UnsafePointer<bp_entry>) {
    bytes = Array(UnsafeRawBufferPointer(start: entry, count: MemoryLayout<bp_entry>.size))
    let value = entry.pointee
    texts = [value.id.text, value.version.text] + (0..<Int(value.kinds_count)).map { value.kinds[$0].text }
  }
}
