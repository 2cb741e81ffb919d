/// Finds the key that a misspelt one was probably meant to be.
public enum ConfigurationSpelling {
  private static let distanceMax = 2
  private static let comparedScalarsMax = 64

  /// The nearest of `candidates`, the earlier of two equally near ones; letter case does not count.
  public static func nearest(to key: String, among candidates: [String]) -> String? {
    let folded = Array(key.lowercased().unicodeScalars.prefix(comparedScalarsMax + 1))
    // Half of a short key may not be wrong: any two keys of two letters are two edits apart.
    let limit = min(distanceMax, max(1, folded.count / 2))
    var best: (key: String, distance: Int)?
    for candidate in candidates {
      let other = Array(candidate.lowercased().unicodeScalars.prefix(comparedScalarsMax + 1))
      guard folded.count <= comparedScalarsMax, other.count <= comparedScalarsMax,
        abs(folded.count - other.count) <= limit
      else { continue }
      let distance = distance(folded, other)
      if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.key
  }

  /// Damerau-Levenshtein in its restricted form (optimal string alignment): insert, delete, replace, swap neighbours.
  private static func distance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
    var beforePrevious = [Int](repeating: 0, count: right.count + 1)
    var previous = Array(0...right.count)
    for row in left.indices {
      var current = [row + 1]
      for column in right.indices {
        var cost = min(
          previous[column] + (left[row] == right[column] ? 0 : 1), previous[column + 1] + 1, current[column] + 1)
        if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
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
