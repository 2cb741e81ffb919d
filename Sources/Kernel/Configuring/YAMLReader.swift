import Yams

/// Reads YAML strictly into a `ConfigurationNode`.
///
/// Yams finds the structure; the meaning of a plain word is decided here, by the core schema of YAML 1.2: `yes`, `on`,
/// `010` and `1:30` are not what YAML 1.1 makes of them. Bounds: size, depth, number of values and of aliases (an
/// alias bomb multiplies), no second key of one name, no merge keys, no tags.
enum YAMLReader {
  static let sizeBytesMax = 1 << 20
  static let depthMax = 32
  static let valuesMax = 100_000
  /// The most expansion out of n aliases is about 3^(n/3): 32 keep it near `valuesMax`, even inside Yams, which hashes
  /// keys before we see them.
  static let aliasesMax = 32

  /// The document's mapping, or nil when there is a problem (added to `problems`). An empty document is empty.
  static func readMapping(_ bytes: [UInt8], path: String, problems: inout ProblemList) -> ConfigurationMapping? {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      problems.add(.file(path: path, line: 0), "The file is not valid UTF-8. Save it as UTF-8.")
      return nil
    }
    guard possibleAliases(in: bytes) <= aliasesMax else {
      problems.add(
        .file(path: path, line: 0), "The file has more than \(aliasesMax) aliases (`*name`). Write the values out.")
      return nil
    }
    let root: Node?
    do {
      root = try Yams.Parser(yaml: text, resolver: .basic, encoding: .utf8).singleRoot()
    } catch let error as YamlError {
      let (line, message) = sentence(for: error)
      problems.add(.file(path: path, line: line), message)
      return nil
    } catch {
      problems.add(.file(path: path, line: 0), "The file cannot be read as YAML: \(error).")
      return nil
    }
    guard let root else { return ConfigurationMapping() }
    var reader = Conversion(path: path)
    let node = reader.convert(root, pointer: "", depth: 0)
    let before = problems
    for problem in reader.problems.problems { problems.add(problem) }
    guard before.problems.count == problems.problems.count else { return nil }
    switch node.value {
    case .mapping(let mapping): return mapping
    case .null: return ConfigurationMapping()
    default:
      problems.add(node.origin, "The file must be a mapping (`key: value` lines), but is \(node.value.found).")
      return nil
    }
  }

  /// Counts what could begin an alias, without parsing: never fewer than there are.
  private static func possibleAliases(in bytes: [UInt8]) -> Int {
    var count = 0
    for index in bytes.indices where bytes[index] == UInt8(ascii: "*") {
      guard index + 1 < bytes.count, bytes[index + 1] > 0x20 else { continue }
      guard index > 0 else {
        count += 1
        continue
      }
      switch bytes[index - 1] {
      case 0...0x20, UInt8(ascii: "["), UInt8(ascii: "{"), UInt8(ascii: ","), UInt8(ascii: ":"), UInt8(ascii: "\""),
        UInt8(ascii: "'"), UInt8(ascii: "}"), UInt8(ascii: "]"):
        // A quoted star (`"*"`), which every cors_origin has, is no alias: the next byte closes the quotes.
        if bytes[index + 1] == UInt8(ascii: "\"") || bytes[index + 1] == UInt8(ascii: "'") { continue }
        count += 1
      default: continue
      }
    }
    return count
  }

  private static func sentence(for error: YamlError) -> (line: Int, message: String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      return (mark.line, "The file is not valid YAML: \(problem) (column \(mark.column)).")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let names = duplicates.map(Redaction.quoted).joined(separator: ", ")
      return (context.mark.line, "The key \(names) stands more than once in one mapping. Keep one of them.")
    case .reader(let problem, _, let value, _):
      let byte = String(value, radix: 16)
      return (0, "The file is not valid YAML: \(problem) (value 0x\(byte)).")
    default:
      return (0, "The file is not valid YAML.")
    }
  }

  /// One pass over the tree Yams made.
  private struct Conversion {
    let path: String
    var problems = ProblemList()
    var valuesCount = 0

    init(path: String) { self.path = path }

    mutating func convert(_ node: Node, pointer: String, depth: Int) -> ConfigurationNode {
      let origin = ConfigurationOrigin.file(path: path, line: node.mark?.line ?? 0)
      valuesCount += 1
      guard valuesCount <= valuesMax else {
        if valuesCount == valuesMax + 1 {
          problems.add(origin, pointer: pointer, "The file has more than \(valuesMax) values (aliases count expanded).")
        }
        return ConfigurationNode(.null, origin)
      }
      guard depth <= depthMax else {
        problems.add(origin, pointer: pointer, "The nesting is deeper than \(depthMax) levels.")
        return ConfigurationNode(.null, origin)
      }
      switch node {
      case .scalar(let scalar):
        refuseTag(scalar.tag, origin, pointer)
        return ConfigurationNode(value(of: scalar, origin, pointer), origin)
      case .sequence(let sequence):
        refuseTag(sequence.tag, origin, pointer)
        var nodes: [ConfigurationNode] = []
        for (index, child) in sequence.enumerated() {
          guard valuesCount <= valuesMax else { break }
          nodes.append(convert(child, pointer: "\(pointer)/\(index)", depth: depth + 1))
        }
        return ConfigurationNode(.list(nodes), origin)
      case .mapping(let mapping):
        refuseTag(mapping.tag, origin, pointer)
        return ConfigurationNode(.mapping(convert(mapping, pointer: pointer, depth: depth)), origin)
      case .alias:
        problems.add(origin, pointer: pointer, "The alias has no value yet here. Write the value out.")
        return ConfigurationNode(.null, origin)
      }
    }

    private mutating func convert(_ mapping: Node.Mapping, pointer: String, depth: Int) -> ConfigurationMapping {
      var result = ConfigurationMapping()
      for (keyNode, valueNode) in mapping {
        guard valuesCount <= valuesMax else { break }
        let keyOrigin = ConfigurationOrigin.file(path: path, line: keyNode.mark?.line ?? 0)
        guard case .scalar(let scalar) = keyNode else {
          problems.add(keyOrigin, pointer: pointer, "A key must be a word, not a list or a mapping.")
          continue
        }
        let key = scalar.string
        if key == "<<", scalar.style == .plain {
          problems.add(keyOrigin, pointer: pointer, "Merge keys (`<<`) are not supported. Write the keys out.")
          continue
        }
        let childPointer = JSONPointer.appending(key, to: pointer)
        guard result[key] == nil else {
          problems.add(
            keyOrigin, pointer: childPointer, "The key stands more than once in one mapping. Keep one of them.")
          continue
        }
        result.set(key, convert(valueNode, pointer: childPointer, depth: depth + 1), keyOrigin: keyOrigin)
      }
      return result
    }

    /// `!!str`, `!!map` and `!!seq` say what is so anyway (Yams also notes them itself when it compares keys).
    private mutating func refuseTag(_ tag: Tag, _ origin: ConfigurationOrigin, _ pointer: String) {
      let allowed = ["", "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"]
      guard !allowed.contains(tag.description) else { return }
      problems.add(
        origin, pointer: pointer, "The tag \(Redaction.quoted(tag.description)) is not supported. Take it out.")
    }

    private mutating func value(
      of scalar: Node.Scalar, _ origin: ConfigurationOrigin, _ pointer: String
    ) -> ConfigurationValue {
      let isPlain = scalar.style == .plain || scalar.style == .any
      guard isPlain, scalar.tag.description != "tag:yaml.org,2002:str" else { return .text(scalar.string) }
      switch scalar.string {
      case "", "~", "null", "Null", "NULL": return .null
      case "true", "True", "TRUE": return .boolean(true)
      case "false", "False", "FALSE": return .boolean(false)
      default: break
      }
      let text = scalar.string
      var digits = Substring(text)
      if digits.first == "-" || digits.first == "+" { digits = digits.dropFirst() }
      if !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
        guard let value = Int64(text) else {
          problems.add(
            origin, pointer: pointer,
            "The number \(text.prefix(40)) does not fit into 64 bits. Quote it if it is a text.")
          return .null
        }
        return .integer(value)
      }
      if text.hasPrefix("0x"), let value = Int64(text.dropFirst(2), radix: 16), !text.hasPrefix("0x-") {
        return .integer(value)
      }
      if Self.isDecimal(digits), let value = Double(text), value.isFinite { return .number(value) }
      return .text(text)
    }

    /// `[0-9]*(\.[0-9]*)?([eE][-+]?[0-9]+)?` with at least one digit before the exponent; no hex floats, no `inf`.
    private static func isDecimal(_ text: Substring) -> Bool {
      var rest = text.utf8[...]
      func takeDigits() -> Int {
        let count = rest.prefix(while: { (0x30...0x39).contains($0) }).count
        rest = rest.dropFirst(count)
        return count
      }
      var digits = takeDigits()
      if rest.first == UInt8(ascii: ".") {
        rest = rest.dropFirst()
        digits += takeDigits()
      }
      guard digits > 0 else { return false }
      if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
        rest = rest.dropFirst()
        if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
        guard takeDigits() > 0 else { return false }
      }
      return rest.isEmpty
    }
  }
}
