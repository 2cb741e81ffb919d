import ArgumentParser
import Glibc
import Kernel

/// `--json`, which every command has.
struct OutputOptions: ParsableArguments {
  @Flag(name: .long, help: "Answer in JSON.")
  var json = false
}

/// A command with `--json`.
protocol AnswersInJSON {
  var output: OutputOptions { get }
}

/// What goes to standard output and standard error.
enum Output {
  static func line(_ text: String) { write(Array(text.utf8) + [0x0A], to: STDOUT_FILENO) }
  static func error(_ text: String) { complain(text, priority: 3) }
  static func warning(_ text: String) { complain("backplane: warning: \(text)", priority: 4) }
  static func bytes(_ bytes: [UInt8]) { write(bytes, to: STDOUT_FILENO) }

  /// Text that came from elsewhere, with what a terminal would obey (control characters) shown as `\u{1b}`.
  static func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      if scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// Columns padded to their widest cell, with a head.
  static func table(_ head: [String], _ rows: [[String]]) {
    for line in lines(of: head, rows) { Self.line(line) }
  }

  /// The lines of such a table.
  static func lines(of head: [String], _ rows: [[String]]) -> [String] {
    let lines = ([head] + rows).map { $0.map(printable) }
    let widths = head.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { cells in
      var text = ""
      for (column, cell) in cells.enumerated() {
        text += cell
        // The last column is not padded, so that lines have no trailing spaces.
        if column < cells.count - 1 { text += String(repeating: " ", count: widths[column] - cell.count + 2) }
      }
      while text.last == " " { text.removeLast() }
      return text
    }
  }

  /// Under journald each line begins with its severity, which journald takes off.
  private static func complain(_ text: String, priority: Int) {
    let prefix = Journal.ofThisProcess == nil ? "" : "<\(priority)>"
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { prefix + $0 + "\n" }
    write(Array(lines.joined().utf8), to: STDERR_FILENO)
  }

  private static func write(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        // Whoever was reading has gone (`| head`): nobody is left to tell.
        return
      }
      rest = rest.dropFirst(count)
    }
  }
}
