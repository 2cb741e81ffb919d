/// A strict reader of OpenMetrics 1.0 text.
public struct OpenMetrics {
  public struct Sample {
    public var name: String
    public var labels: [String: String]
    public var value: Double
  }

  public struct Family {
    public var name: String
    public var type = "unknown"
    public var unit = ""
    public var help: String?
    public var samples: [Sample] = []
  }

  public struct Problem: Error, CustomStringConvertible {
    public var line: Int
    public var reason: String
    public var description: String { "line \(line): \(reason)" }
  }

  public private(set) var families: [Family] = []

  public subscript(name: String) -> Family? { families.first { $0.name == name } }

  /// The value of the one sample with this name and, among others, these labels.
  public func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
    let found = families.flatMap(\.samples).filter { sample in
      sample.name == name && labels.allSatisfy { sample.labels[$0] == $1 }
    }
    return found.count == 1 ? found[0].value : nil
  }

  /// - Throws: `Problem` at the first thing the format does not allow.
  public init(_ text: String) throws {
    guard text.hasSuffix("# EOF\n") else {
      throw Problem(line: 0, reason: "it does not end with # EOF and one line break")
    }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    var metadata: Set<String> = []
    var seen: Set<String> = []
    for (index, line) in lines.enumerated() {
      func fail(_ reason: String) -> Problem { Problem(line: index + 1, reason: "\(reason): \(line)") }
      if line == "# EOF" {
        guard index == lines.count - 1 else { throw fail("text after # EOF") }
        break
      }
      if line.hasPrefix("#") {
        let parts = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 4, parts[0] == "#", ["TYPE", "UNIT", "HELP"].contains(parts[1]) else {
          throw fail("only TYPE, UNIT and HELP may follow #")
        }
        guard Self.isName(parts[2]) else { throw fail("not a metric name") }
        guard metadata.insert("\(parts[1]) \(parts[2])").inserted else { throw fail("said twice") }
        if families.last?.name != parts[2] {
          guard !families.contains(where: { $0.name == parts[2] }) else { throw fail("families are interleaved") }
          families.append(Family(name: parts[2]))
        }
        var family = families.removeLast()
        guard family.samples.isEmpty else { throw fail("metadata after samples") }
        switch parts[1] {
        case "TYPE":
          guard ["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"].contains(parts[3]) else {
            throw fail("not a type")
          }
          family.type = parts[3]
        case "UNIT":
          guard parts[2].hasSuffix("_\(parts[3])"), !parts[3].isEmpty else {
            throw fail("the name does not end with the unit")
          }
          family.unit = parts[3]
        default:
          guard Self.unescaped(Substring(parts[3])) != nil else { throw fail("a bad escape") }
          family.help = parts[3]
        }
        families.append(family)
        continue
      }
      guard let sample = Self.sample(line) else { throw fail("not a sample") }
      guard var family = families.last, Self.belongs(sample, to: family) else {
        throw fail("not of the family above it")
      }
      let identity =
        sample.name + sample.labels.sorted { $0.key < $1.key }.map { "\u{1}\($0.key)\u{2}\($0.value)" }.joined()
      guard seen.insert(identity).inserted else { throw fail("the same series twice") }
      if family.type == "counter", !(sample.value >= 0) { throw fail("a counter below zero") }
      family.samples.append(sample)
      families[families.count - 1] = family
    }
    for family in families where family.type == "histogram" { try Self.check(family) }
  }

  private static func belongs(_ sample: Sample, to family: Family) -> Bool {
    let suffixes: [String] =
      switch family.type {
      case "counter": ["_total", "_created"]
      case "histogram": ["_bucket", "_sum", "_count", "_created"]
      case "summary": ["", "_sum", "_count", "_created"]
      case "info": ["_info"]
      default: [""]
      }
    return suffixes.contains { sample.name == family.name + $0 }
  }

  /// Buckets rise, the last is +Inf and equals the count.
  private static func check(_ family: Family) throws {
    var groups: [[String: String]: [Sample]] = [:]
    for sample in family.samples {
      var labels = sample.labels
      labels["le"] = nil
      groups[labels, default: []].append(sample)
    }
    for (labels, samples) in groups {
      func fail(_ reason: String) -> Problem { Problem(line: 0, reason: "\(family.name) \(labels): \(reason)") }
      let buckets = samples.filter { $0.name.hasSuffix("_bucket") }
      var last = (bound: -Double.infinity, count: 0.0)
      for bucket in buckets {
        guard let text = bucket.labels["le"], let bound = number(text) else { throw fail("a bucket without le") }
        guard bound > last.bound, bucket.value >= last.count else { throw fail("buckets do not rise") }
        last = (bound, bucket.value)
      }
      guard last.bound == .infinity else { throw fail("no bucket for +Inf") }
      guard let count = samples.first(where: { $0.name.hasSuffix("_count") }), count.value == last.count else {
        throw fail("the count is not the last bucket's")
      }
    }
  }

  private static func isName(_ text: String) -> Bool { text.wholeMatch(of: #/[a-zA-Z_:][a-zA-Z0-9_:]*/#) != nil }

  private static func number(_ text: some StringProtocol) -> Double? {
    switch text.lowercased() {
    case "+inf", "inf", "+infinity", "infinity": .infinity
    case "-inf", "-infinity": -.infinity
    case "nan": .nan
    default:
      String(text).wholeMatch(of: #/[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?/#) == nil ? nil : Double(text)
    }
  }

  private static func unescaped(_ text: Substring) -> String? {
    var result = ""
    var rest = text
    while let character = rest.popFirst() {
      guard character == "\\" else {
        result.append(character)
        continue
      }
      switch rest.popFirst() {
      case "n": result.append("\n")
      case "\\": result.append("\\")
      case "\"": result.append("\"")
      default: return nil
      }
    }
    return result
  }

  private static func sample(_ line: String) -> Sample? {
    let whole = #/([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: [0-9.]+)?/#
    guard let match = line.wholeMatch(of: whole), let value = number(match.3) else { return nil }
    var labels: [String: String] = [:]
    var rest = match.2 ?? ""
    while !rest.isEmpty {
      guard let label = rest.prefixMatch(of: #/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/#),
        let text = unescaped(label.2), labels.updateValue(text, forKey: String(label.1)) == nil
      else { return nil }
      rest = rest[label.range.upperBound...]
      if rest.first == "," { rest.removeFirst() } else if !rest.isEmpty { return nil }
    }
    return Sample(name: String(match.1), labels: labels, value: value)
  }
}
