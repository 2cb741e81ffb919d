import PluginAPI

/// Tells whether bytes are still those that were noted: 64 bits, FNV-1a over little-endian words, the last one filled
/// with zeros, then the length. Part of the layout of documents; against chance, not against an enemy.
func digest(_ bytes: BorrowedBytes) -> UInt64 {
  var value: UInt64 = 0xcbf2_9ce4_8422_2325
  func add(_ word: UInt64) {
    value = (value ^ word) &* 0x0000_0100_0000_01b3
    // A multiplication moves bits up only.
    value ^= value >> 32
  }
  let raw = UnsafeRawBufferPointer(bytes)
  let wordsCount = raw.count / 8
  for index in 0..<wordsCount {
    add(UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)))
  }
  var last: UInt64 = 0
  for index in (wordsCount * 8)..<raw.count { last |= UInt64(raw[index]) << UInt64(index % 8 * 8) }
  add(last)
  add(UInt64(raw.count))
  return value
}
