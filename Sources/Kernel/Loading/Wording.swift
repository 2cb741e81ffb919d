import Glibc

/// Small helpers for sentences that quote what a stranger wrote.
enum Wording {
  /// The text in quotation marks, on one line and at most `lengthMax` characters: names from a plugin's file must not be
  /// able to forge lines in the log or flood it.
  static func quoted(_ text: String, lengthMax: Int = 80) -> String {
    "\"\(printable(text, lengthMax: lengthMax))\""
  }

  static func printable(_ text: String, lengthMax: Int = 4_096) -> String {
    var result = ""
    var length = 0
    for scalar in text.unicodeScalars {
      if length == lengthMax { return result + "..." }
      length += 1
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
        result += "\\u{\(String(scalar.value, radix: 16))}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// What the system says of an `errno` value, such as "No space left on device".
  static func system(_ code: Int32) -> String { String(cString: strerror(code)) }

  /// ` (did you mean "schemes"?)`, or nothing when no known name is near.
  static func suggestion(for name: String, among known: [String]) -> String {
    closest(to: name, among: known).map { " (did you mean \(quoted($0))?)" } ?? ""
  }

  /// The known name with the fewest edits from `name`, when those are few against its length.
  static func closest(to name: String, among known: [String]) -> String? {
    let wanted = Array(name.lowercased().utf8.prefix(64))
    let limit = max(1, wanted.count / 3)
    return known.map { ($0, editDistance(wanted, Array($0.utf8))) }.filter { $0.1 <= limit }.min { $0.1 < $1.1 }?.0
  }

  /// Edits with a swap of two neighbours counted as one (optimal string alignment): the commonest slip of a typist.
  private static func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var beforePrevious: [Int] = []
    var previous = Array(0...right.count)
    for (row, leftByte) in left.enumerated() {
      var current = [row + 1]
      for (column, rightByte) in right.enumerated() {
        var best = min(
          previous[column] + (leftByte == rightByte ? 0 : 1), previous[column + 1] + 1, current[column] + 1)
        if row > 0, column > 0, leftByte == right[column - 1], left[row - 1] == rightByte {
          best = min(best, beforePrevious[column - 1] + 1)
        }
        current.append(best)
      }
      beforePrevious = previous
      previous = current
    }
    return previous[right.count]
  }
}
