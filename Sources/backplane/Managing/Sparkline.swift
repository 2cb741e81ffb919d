/// The last values of something, and a picture of them one line high.
struct Sparkline: Sendable, Equatable {
  static let countMax = 24
  private static let blocks: [Character] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

  /// Nil where there was no value.
  private(set) var values: [Double?] = []

  mutating func add(_ value: Double?) {
    values.append(value.flatMap { $0.isFinite ? max(0, $0) : nil })
    if values.count > Self.countMax { values.removeFirst(values.count - Self.countMax) }
  }

  /// From zero to the greatest of the values; a gap where there was none.
  var text: String {
    let top = values.compactMap { $0 }.max() ?? 0
    return String(
      values.map { value -> Character in
        guard let value else { return " " }
        guard top > 0 else { return Self.blocks[0] }
        return Self.blocks[min(Self.blocks.count - 1, Int(value / top * Double(Self.blocks.count)))]
      })
  }
}
