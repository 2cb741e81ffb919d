import Glibc
import JSONText

// The JSON text engine over the lines of a file, each of them one text. Usage: JSONBenchmark RUNS FILE; prints JSON lines.

guard CommandLine.arguments.count == 3, let runs = Int(CommandLine.arguments[1]), runs > 0,
  let file = fopen(CommandLine.arguments[2], "rb")
else {
  print("usage: JSONBenchmark RUNS FILE")
  exit(64)
}

var text: [UInt8] = []
var buffer = [UInt8](repeating: 0, count: 1 << 16)
while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { text += buffer[..<count] }
fclose(file)

var lines: [Range<Int>] = []
var start = 0
while start < text.count {
  let end = text[start...].firstIndex(of: 0x0A) ?? text.count
  lines.append(start..<end)
  start = end + 1
}

func measure(_ name: String, _ text: [UInt8], _ lines: [Range<Int>], _ body: (UnsafeRawBufferPointer) -> Void) {
  var figures: [String] = []
  text.withUnsafeBytes { all in
    for _ in 0..<runs {
      let began = ContinuousClock.now
      for line in lines { body(UnsafeRawBufferPointer(rebasing: all[line])) }
      let seconds = (ContinuousClock.now - began) / .seconds(1)
      figures.append("\(Double(text.count) / seconds / 1e6)")
    }
  }
  print(#"{"name": "\#(name)", "runs": [\#(figures.joined(separator: ", "))]}"#)
}

let scanner = JSONScanner()
measure("scan", text, lines) { line in
  guard case .success = scanner.scan(line) else { exit(65) }
}
var printed: [UInt8] = []
for (name, order) in [("canonical", CanonicalText.Order.canonical), ("signing", .signing)] {
  measure(name, text, lines) { line in
    printed.removeAll(keepingCapacity: true)
    do throws(JSONError) { try CanonicalText.append(line, order: order, to: &printed) } catch { exit(65) }
  }
}
