/// The did-you-mean of unknown keys and words.
enum Suggestion {
  /// The candidate nearest to `word`, or nil when none is near enough to be what was meant: at most a third of the
  /// letters may differ (a swap of neighbours counts once).
  static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
    // A key of a megabyte is not a slip of the finger, and the distance is quadratic.
    guard word.utf8.count <= 64 else { return nil }
    let letters = Array(word.lowercased().map { $0 == "-" ? "_" : $0 })
    var best: (candidate: String, distance: Int)?
    for candidate in candidates {
      let other = Array(candidate.lowercased().map { $0 == "-" ? "_" : $0 })
      let distance = editDistance(letters, other)
      guard distance <= max(1, max(letters.count, other.count) / 3) else { continue }
      if let found = best, (found.distance, found.candidate) <= (distance, candidate) { continue }
      best = (candidate, distance)
    }
    return best?.candidate
  }

  /// ` Did you mean "x"?`, or a list of what is allowed, or nothing when that list would be long.
  static func sentence(for word: String, among candidates: [String]) -> String {
    if let nearest = nearest(to: word, among: candidates) { return " Did you mean \"\(nearest)\"?" }
    guard candidates.count <= 12 else { return "" }
    return " Known here: \(candidates.sorted().joined(separator: ", "))."
  }

  /// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
  private static func editDistance(_ left: [Character], _ right: [Character]) -> Int {
    var beforePrevious = [Int](repeating: 0, count: right.count + 1)
    var previous = Array(0...right.count)
    for (row, letter) in left.enumerated() {
      var current = [row + 1]
      for (column, other) in right.enumerated() {
        var cost = min(previous[column + 1] + 1, current[column] + 1, previous[column] + (letter == other ? 0 : 1))
        if row > 0, column > 0, letter == right[column - 1], left[row - 1] == other {
          cost = min(cost, beforePrevious[column - 1] + 1)
        }
        current.append(cost)
      }
      beforePrevious = previous
      previous = current
    }
    return previous[right.count]
  }
}
