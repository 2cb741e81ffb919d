import Glibc

/// A terminal on which lines are drawn again in their place.
struct Screen {
  private var drawnCount = 0

  /// Standard output is a terminal that obeys.
  static var isThere: Bool {
    guard isatty(STDOUT_FILENO) != 0 else { return false }
    let kind = getenv("TERM").map { String(cString: $0) }
    return kind != nil && kind != "dumb"
  }

  /// Draws `lines` over those that were drawn before. What does not fit is cut off and said: a line that wraps, or one
  /// that scrolls away, could not be drawn over.
  mutating func draw(_ lines: [String]) {
    let (columns, rows) = Self.size()
    var shown = lines.map { String($0.prefix(columns)) }
    if shown.count > rows - 1 {
      let left = shown.count - (rows - 2)
      shown = shown.prefix(rows - 2) + [String("(\(left) more lines: make the window higher)".prefix(columns))]
    }
    var text = drawnCount > 0 ? "\u{1b}[\(drawnCount)A" : ""
    // To the beginning of the line, and to its end cleared, one by one: clearing all first would flicker.
    for line in shown { text += "\r\(line)\u{1b}[K\n" }
    text += "\u{1b}[J"
    drawnCount = shown.count
    Output.bytes(Array(text.utf8))
  }

  private static func size() -> (columns: Int, rows: Int) {
    var window = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &window) == 0, window.ws_col > 0, window.ws_row > 2 else {
      return (80, 24)
    }
    return (Int(window.ws_col), Int(window.ws_row))
  }
}
