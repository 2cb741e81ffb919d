import JSONText
import MessageCrypto

/// What is remembered of configurations across restarts.
struct KeptConfiguration: Sendable {
  private static let lastFile = "last-configuration.json"
  private static let marksFile = "configuration-marks.json"
  /// Configurations that were replaced, the newest last.
  private static let replacedMax = 1_000

  let files: StateFiles

  // MARK: The last one

  /// As it was received, so that its signature is verified again.
  var last: StoredRecord? {
    guard let bytes = files.read(Self.lastFile) else { return nil }
    return bytes.withUnsafeBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes), let data = value.member("data"),
        let timestamp = value.member("ts").flatMap({ JSONNumber.value(of: $0) })
      else { return nil }
      return StoredRecord(data: Array(data.bytes), timestampMs: timestamp)
    }
  }

  func keep(_ record: StoredRecord) throws(Trouble) {
    var text = Array(#"{"ts":"#.utf8)
    _ = JSONNumber.append(record.timestampMs, to: &text)
    text += Array(#","data":"#.utf8) + record.data + Array("}".utf8)
    try files.write(Self.lastFile, text)
  }

  func forget() { files.remove(Self.lastFile) }

  // MARK: What must not come back

  /// The time of the newest configuration that was applied, and digests of those that were replaced.
  struct Marks: Equatable, Sendable {
    var newestMs = 0.0
    var current = ""
    var replaced: [String] = []
  }

  var marks: Marks {
    guard let bytes = files.read(Self.marksFile) else { return Marks() }
    return bytes.withUnsafeBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return Marks() }
      return Marks(
        newestMs: value.member("newest_ms").flatMap { JSONNumber.value(of: $0) } ?? 0,
        current: value.member("current")?.text ?? "",
        replaced: value.member("replaced")?.elements.compactMap(\.text) ?? [])
    }
  }

  /// The record has been applied.
  func mark(_ record: StoredRecord) throws(Trouble) {
    var marks = marks
    let digest = Self.digest(record)
    if digest == marks.current, record.timestampMs <= marks.newestMs { return }
    if digest != marks.current {
      if !marks.current.isEmpty { marks.replaced.append(marks.current) }
      marks.replaced.removeAll { $0 == digest }
      marks.replaced = marks.replaced.suffix(Self.replacedMax)
      marks.current = digest
    }
    marks.newestMs = max(marks.newestMs, record.timestampMs)
    var text = Array(#"{"newest_ms":"#.utf8)
    _ = JSONNumber.append(marks.newestMs, to: &text)
    text += Array(#","current":"\#(marks.current)","replaced":["#.utf8)
    text += Array(marks.replaced.map { "\"\($0)\"" }.joined(separator: ",").utf8)
    text += Array("]}".utf8)
    try files.write(Self.marksFile, text)
  }

  /// Why the record is a step back; nil: it is none.
  func staleness(_ record: StoredRecord) -> String? {
    let marks = marks
    let digest = Self.digest(record)
    if digest == marks.current { return nil }
    if marks.replaced.contains(digest) { return "was in force before and has been replaced; sign a new one" }
    if record.timestampMs < marks.newestMs { return "is older than the one that was applied last; publish it again" }
    return nil
  }

  private static func digest(_ record: StoredRecord) -> String {
    Hexadecimal.text(record.data.withUnsafeBytes { SHA256.digest(of: $0) })
  }
}
