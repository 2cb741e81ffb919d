import PluginAPI
import PluginTestHost

/// Records that are too much for somebody: each is stored and read back to the byte, or refused with a sentence that names
/// the limit, and what comes after it is served as before.
struct LimitChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private let root = TraceRun.roots[0]

  func run() async {
    let deep = String(repeating: "[", count: 12_000) + String(repeating: "]", count: 12_000)
    await check("backend.deep-json", Array(deep.utf8), .json)
    let nested = String(repeating: "{\"a\":", count: 10_500) + "\"\\u0000\"" + String(repeating: "}", count: 10_500)
    await check("backend.deep-objects", Array(nested.utf8), .json)
    await check("backend.many-keys", Bulk.object(keysCount: 20_000), .json)
    await check(
      "backend.odd-text", Array("\"\\u0000\\ud800 \\udc00\\ud83d\\ude00\\/\\u002f\u{7f}\u{10ffff}\"".utf8), .json)
    await check("backend.large-data", Bulk.bytes(1 << 20, seed: bench.seed), .bytes)
    let uri = "\(root)/" + String(repeating: "u", count: 4_096 - root.utf8.count - 1)
    await check("backend.long-uri", [0x31], .json, at: uri)
    guard bench.extent.isFull else { return }
    await check("backend.10-MiB-binary", Bulk.bytes(10 << 20, seed: bench.seed), .bytes)
    await check("backend.64-MiB", Bulk.text(64 << 20), .json)
    await check("backend.many-keys-more", Bulk.object(keysCount: 500_000), .json)
  }

  private func check(_ name: String, _ data: [UInt8], _ content: Content, at given: String? = nil) async {
    await bench.recording.check(name) {
      let uri = given ?? "\(root)/large"
      return try await bench.servingNothing { host in
        let driver = try BackendDriver(host)
        let refusal = try await put(driver, uri, data, content)
        if refusal == nil { try await compare(driver, uri, data, content) }
        // Whatever came of it, a small record is served as before.
        let small = Array("\"after\"".utf8)
        let answer = try await driver.apply([.put("\(root)/~small", small)], stamp: 2)
        try require(
          answer.code == BP_OK, "a small record afterwards failed with code \(answer.code): \(answer.message)")
        let read = try await driver.read("\(root)/~small")
        try require(read?.data == small, "a small record that was put afterwards was not read back")
        // One by one: a cursor has to get past it.
        let all = try await driver.scan(prefix: "\(root)/", credits: 1, itemsMax: 100)
        try require(all.count == (refusal == nil ? 2 : 1), "a scan by 1 has \(all.count) records")
        for uri in (refusal == nil ? [uri] : []) + ["\(root)/~small"] {
          let answer = try await driver.apply([.delete(uri)], stamp: 3)
          try require(answer.code == BP_OK, "a delete failed with code \(answer.code): \(answer.message)")
        }
        let left = try await driver.scan(prefix: "\(root)/", credits: 100, itemsMax: 100)
        try require(left.isEmpty, "\(left.count) records were there after all had been deleted")
        return refusal.map { "refused: \($0)" } ?? "\(data.count) bytes"
      }
    }
  }

  /// Why it was refused; nil: it was taken.
  private func put(
    _ driver: BackendDriver, _ uri: String, _ data: [UInt8], _ content: Content
  ) async throws -> String? {
    let answer = try await driver.apply([.put(uri, data, content)], stamp: 1)
    if answer.code == BP_OK { return nil }
    // Another node judges what it is sent, and says so.
    let limits =
      [BP_RESOURCE_EXHAUSTED, BP_INVALID_ARGUMENT, BP_OUT_OF_RANGE] + (driver.traits.isRemote ? [BP_REJECTED] : [])
    let isLimit = limits.contains(answer.code)
    try require(
      isLimit,
      "it failed with code \(answer.code): \(answer.message); a limit is BP_RESOURCE_EXHAUSTED or "
        + "BP_INVALID_ARGUMENT")
    try require(
      answer.message.contains { $0.isNumber },
      "it was refused with a sentence that does not say the limit: '\(answer.message)'")
    let read = try await driver.read(uri)
    try require(read == nil, "it was refused, and yet there is a record")
    return answer.message
  }

  private func compare(_ driver: BackendDriver, _ uri: String, _ data: [UInt8], _ content: Content) async throws {
    guard let record = try await driver.read(uri) else { throw Problem("it was put, and there is no record") }
    try require(record.content == content, "content \(record.content) instead of \(content)")
    guard !record.data.isSame(as: data) else { return try await scan(driver, uri, data) }
    let place = zip(record.data, data).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    throw Problem(
      "\(record.data.count) bytes were read back of \(data.count) that were put; they differ from byte "
        + "\(place ?? min(record.data.count, data.count)) on")
  }

  private func scan(_ driver: BackendDriver, _ uri: String, _ data: [UInt8]) async throws {
    let items = try await driver.scan(prefix: "\(root)/", credits: 100, itemsMax: 100)
    guard let item = items.first(where: { $0.uri == uri }) else { throw Problem("a scan does not have it") }
    try require(
      driver.traits.isRemote || item.sizeBytes == data.count,
      "a scan says that it has \(item.sizeBytes) bytes; it has \(data.count)")
  }
}

/// Large data, made as fast as memory is copied, in a debug build too.
enum Bulk {
  /// Bytes of every value, no two blocks the same.
  static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = SeededGenerator(seed: seed)
    let block = random.bytes(4_096)
    return fill(count, block) { $0.storeBytes(of: $1 &* 0x9E37_79B9_7F4A_7C15, as: UInt64.self) }
  }

  /// One JSON string of so many bytes, quotes included.
  static func text(_ count: Int) -> [UInt8] {
    let block = [UInt8](repeating: 0x78, count: 4_096)
    var bytes = fill(count, block) { block, number in
      // Sixteen letters that tell the blocks apart.
      for digit in 0..<16 { block[digit] = 0x61 + UInt8(truncatingIfNeeded: number >> UInt64(digit * 4)) & 15 }
    }
    bytes[0] = UInt8(ascii: "\"")
    bytes[count - 1] = UInt8(ascii: "\"")
    return bytes
  }

  static func object(keysCount: Int) -> [UInt8] {
    var text = "{"
    for key in 0..<keysCount { text += "\(key == 0 ? "" : ",")\"key \(key)\":\(key)" }
    return Array((text + "}").utf8)
  }

  private static func fill(
    _ count: Int, _ block: [UInt8], _ mark: (UnsafeMutableRawBufferPointer, UInt64) -> Void
  ) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      let raw = UnsafeMutableRawBufferPointer(buffer)
      for start in stride(from: 0, to: count, by: block.count) {
        let part = UnsafeMutableRawBufferPointer(rebasing: raw[start..<min(count, start + block.count)])
        part.copyBytes(from: block.prefix(part.count))
        if part.count >= 16 { mark(part, UInt64(start / block.count) &+ 1) }
      }
      filled = count
    }
  }
}
