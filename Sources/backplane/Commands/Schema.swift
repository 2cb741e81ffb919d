import ArgumentParser
import Foundation
import JSONText
import Kernel
import PluginAPI
import RuleBook

struct Schema: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Look at rules for a schema without code.", subcommands: [SchemaCheck.self])
}

struct SchemaCheck: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Say everything that is wrong with a rules file, and what it says to messages.",
    discussion: """
      A message is a URI, = and a value: JSON as it is, or @ and a file's name (a file that is not JSON is bytes). An = in \
      the URI is written %3D.
      """)

  /// Largest file of a message.
  private static let sizeBytesMax = 64 << 20

  @Argument(help: "The rules file, YAML or JSON.", completion: .file(extensions: ["yaml", "yml", "json"]))
  var file: String
  @Option(
    name: .long, help: ArgumentHelp("Explain what becomes of this message; may be repeated.", valueName: "uri=value"))
  var message: [String] = []
  @Option(
    name: .long, help: ArgumentHelp("Explain what becomes of deleting this record; may be repeated.", valueName: "uri"))
  var delete: [String] = []
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let included: IncludedFile
    do throws(ConfigurationError) {
      included = try IncludedFile(file, workingDirectory: FileManager.default.currentDirectoryPath)
    } catch {
      try report(
        error.problems.map { Problem(origin: $0.origin, pointer: $0.pointer ?? "", message: $0.message) })
      return
    }
    let book: RuleBook
    do throws(ConfigurationErrors) {
      book = try RuleBook(try RuleValue.parse(Array(included.json.utf8)))
    } catch {
      try report(
        error.problems.map {
          Problem(
            origin: included.origin(at: $0.pointer) ?? .file(path: file, line: 0), pointer: $0.pointer,
            message: $0.message)
        })
      return
    }
    let explanations =
      try message.map { try explain($0, book) }
      + delete.map { book.explain(uri: $0, data: [], isJSON: true, isDelete: true) }
    if output.json {
      Output.line(
        JSONValue.object([
          "ok": .bool(true), "problems": .array([]),
          "programs": .array(book.programs.filter { !$0.isUnlisted }.map { .string($0.key) }),
          "messages": .array(explanations.map { json($0, included) }),
        ]).text)
    } else {
      let count = book.programs.count { !$0.isUnlisted }
      let others = book.programs.contains(where: \.isFallback) ? ", and every other" : ""
      Output.line("\(Output.printable(file)) is good: \(count) \(count == 1 ? "program" : "programs")\(others).")
      for explanation in explanations { show(explanation, included, indent: "") }
    }
    if !explanations.allSatisfy(\.isAccepted) { throw CommandFailure.answered(.refused) }
  }

  private func explain(_ text: String, _ book: RuleBook) throws -> Explanation {
    guard let equals = text.firstIndex(of: "=") else {
      throw CommandFailure(.usage, "--message is a URI, = and a value, such as mutable://open/x={\"a\":1}.")
    }
    let uri = String(text[..<equals])
    let value = text[text.index(after: equals)...]
    guard value.hasPrefix("@") else {
      let data = Array(value.utf8)
      if case .failure(let problem) = data.withUnsafeBufferPointer({ JSONScanner(depthMax: .max).scan($0) }) {
        throw CommandFailure(.usage, "the value of the message to \(uri) is not JSON: \(problem)")
      }
      return book.explain(uri: uri, data: data, isJSON: true)
    }
    let path = String(value.dropFirst())
    guard let handle = FileHandle(forReadingAtPath: path), let data = try? handle.read(upToCount: Self.sizeBytesMax + 1)
    else { throw CommandFailure(.usage, "the file \(path) cannot be read") }
    guard data.count <= Self.sizeBytesMax else {
      throw CommandFailure(.usage, "the file \(path) is larger than \(Self.sizeBytesMax) bytes")
    }
    let bytes = Array(data)
    let scanned = bytes.withUnsafeBufferPointer { JSONScanner(depthMax: .max).scan($0).map { _ in } }
    if case .success = scanned { return book.explain(uri: uri, data: bytes, isJSON: true) }
    return book.explain(uri: uri, data: bytes, isJSON: false)
  }

  // MARK: A file that is wrong

  private struct Problem {
    var origin: ConfigurationOrigin
    var pointer: String
    var message: String

    var description: String { "\(SchemaCheck.shown(origin)): \(pointer.isEmpty ? "" : "\(pointer): ")\(message)" }
  }

  private func report(_ problems: [Problem]) throws -> Never {
    if output.json {
      let list = problems.map { problem in
        var members: [String: JSONValue] = ["pointer": .string(problem.pointer), "message": .string(problem.message)]
        if case .file(let path, let line) = problem.origin {
          members["file"] = .string(path)
          if line > 0 { members["line"] = .integer(Int64(line)) }
        }
        return JSONValue.object(members)
      }
      Output.line(JSONValue.object(["ok": .bool(false), "problems": .array(list)]).text)
    } else {
      for problem in problems { Output.line(Output.printable(problem.description)) }
    }
    throw CommandFailure.answered(.configuration)
  }

  /// `rules.yaml:7`
  private static func shown(_ origin: ConfigurationOrigin) -> String {
    if case .file(let path, let line) = origin { return line > 0 ? "\(path):\(line)" : path }
    return "\(origin)"
  }

  // MARK: What becomes of a message

  private func show(_ explanation: Explanation, _ file: IncludedFile, indent: String) {
    func line(_ text: String) { Output.line(indent + Output.printable(text)) }
    switch explanation.verdict {
    case .accepted:
      let verb = explanation.isDelete ? "deleted" : "stored"
      let condition = explanation.unless.map { " if there is no record yet; else the client is told: \($0)" } ?? ""
      line("\(explanation.uri): accepted, \(verb)\(condition)")
    case .refused(let text): line("\(explanation.uri): refused: \(text)")
    case .unknownProgram: line("\(explanation.uri): another schema's; this file says nothing of \(explanation.program)")
    }
    for step in explanation.steps {
      let place = step.pointer.isEmpty ? "" : " (\(file.origin(at: step.pointer).map(Self.shown) ?? step.pointer))"
      let reason = step.reason.isEmpty ? "" : ": \(step.reason)"
      line(
        "  " + String(repeating: "  ", count: step.depth) + (step.holds ? "holds  " : "FAILS  ") + step.word + place
          + reason)
    }
    for output in explanation.outputs { show(output, file, indent: indent + "  ") }
  }

  private func json(_ explanation: Explanation, _ file: IncludedFile) -> JSONValue {
    var members: [String: JSONValue] = [
      "uri": .string(explanation.uri), "program": .string(explanation.program),
      "verb": .string(explanation.isDelete ? "delete" : "put"), "ok": .bool(explanation.isAccepted),
      "rules": .array(
        explanation.steps.map { step in
          var members: [String: JSONValue] = [
            "rule": .string(step.word), "pointer": .string(step.pointer), "holds": .bool(step.holds),
            "reason": .string(step.reason),
          ]
          if case .file(let path, let line)? = file.origin(at: step.pointer), !step.pointer.isEmpty {
            members["file"] = .string(path)
            members["line"] = .integer(Int64(line))
          }
          return .object(members)
        }),
      "outputs": .array(explanation.outputs.map { json($0, file) }),
    ]
    switch explanation.verdict {
    case .accepted: members["verdict"] = .string("accepted")
    case .refused(let text):
      members["verdict"] = .string("refused")
      members["reason"] = .string(text)
    case .unknownProgram: members["verdict"] = .string("unknown program")
    }
    if let unless = explanation.unless {
      members["condition"] = .string("absent")
      members["refusal"] = .string(unless)
    }
    return .object(members)
  }
}
