import PluginAPI

/// One thing that is done to a backend and to the model.
enum Step: Sendable, Equatable {
  /// `stamp` gives the time and the version.
  case apply([Op], stamp: UInt64)
  case read(String)
  case readWithoutData(String)
  /// Through all pages of `credits`, and once more in one page: the order must be the same.
  case scan(prefix: String, credits: UInt32)
  /// One page of a list, made of a scan as a node makes it.
  case list(ListCase)
}

/// A sequence of steps, beginning with no records.
struct Trace: Sendable {
  var steps: [Step]

  /// Units stamped 1, 2, 3, ...
  init(_ steps: [Step] = []) { self.steps = steps }

  /// `text`, as JSON, is one value without anything around it: it is checked before it comes to a backend.
  mutating func put(_ uri: String, _ text: String = "1", _ content: Content = .json, if condition: Condition = .any) {
    unit([.put(uri, Array(text.utf8), content, if: condition)])
  }

  mutating func delete(_ uri: String, if condition: Condition = .any) { unit([.delete(uri, if: condition)]) }

  mutating func unit(_ ops: [Op]) { steps.append(.apply(ops, stamp: UInt64(steps.count + 1))) }

  mutating func read(_ uris: String...) { steps += uris.map { .read($0) } }

  mutating func scan(_ prefix: String, credits: UInt32 = 100) { steps.append(.scan(prefix: prefix, credits: credits)) }

  /// Numbered lines; the middle of a long trace is left out.
  var text: String {
    let lines = steps.enumerated().map { "  \($0.offset + 1). \($0.element)" }
    if lines.count <= 16 { return lines.joined(separator: "\n") }
    return (lines.prefix(8) + ["  ... (\(lines.count - 16) steps left out)"] + lines.suffix(8)).joined(separator: "\n")
  }
}

extension Step: CustomStringConvertible {
  var description: String {
    switch self {
    case .apply(let ops, let stamp):
      let shown = ops.prefix(6).map(Step.text).joined(separator: ", ")
      return "apply #\(stamp) [\(shown)\(ops.count > 6 ? ", ... \(ops.count) ops" : "")]"
    case .read(let uri): return "read \(BackendDriver.shown(uri))"
    case .readWithoutData(let uri): return "read without data \(BackendDriver.shown(uri))"
    case .list(let list): return "\(list)"
    case .scan(let prefix, let credits): return "scan '\(BackendDriver.shown(prefix))' by \(credits)"
    }
  }

  private static func text(_ op: Op) -> String {
    let condition =
      switch op.condition {
      case .any: ""
      case .absent: " if absent"
      case .present: " if present"
      case .version(let version): " if version \(version)"
      }
    let uri = BackendDriver.shown(op.uri)
    switch op.verb {
    case .put(let data, let content): return "put \(uri) (\(content), \(data.count) bytes)\(condition)"
    case .delete: return "delete \(uri)\(condition)"
    }
  }
}
