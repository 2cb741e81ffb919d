import JSONText
import PluginAPI
import RuleBook
import SchemaSupport
import Synchronization

public struct RulesConfiguration: Decodable, Sendable {
  /// Missing in a self-test alone.
  let rules: RuleValue?
}

/// A schema without code: what each program demands stands in a rules file. New rules are a new instance: the kernel reads
/// the file and gives its content as configuration.
public final class Rules: DirectSchema {
  /// What is quick is judged before `judge` returns, the rest on threads of the instance's own.
  public static let judgeMode = CallMode.async
  public static let threads = 2

  private let book: RuleBook
  private let context: Context
  /// Set by `start`.
  private let boundsHit = Mutex<[RuleBound: Counter]>([:])
  public var programs: [Program] { book.programs }
  public var judgesDeletes: Bool { book.judgesDeletes }

  public init(_ configuration: RulesConfiguration, _ context: Context) throws {
    self.context = context
    var rules = configuration.rules
    if rules == nil, context.purpose == .test { rules = .sample }
    guard let rules else {
      throw ConfigurationProblem(
        pointer: "/rules",
        message: "The rules are missing. Name their file, rules: ${yaml:rules.yaml}, or write them here.")
    }
    do throws(ConfigurationErrors) {
      book = try RuleBook(rules)
    } catch {
      throw ConfigurationErrors(
        problems: error.problems.map { ConfigurationProblem(pointer: "/rules" + $0.pointer, message: $0.message) })
    }
  }

  public func start() async throws {
    let counters = RuleBound.allCases.map { bound in
      (
        bound,
        context.metrics.counter(
          "rules_bounds_hit_total", help: "Messages refused because judging them hit a bound.",
          labels: [("bound", bound.rawValue)])
      )
    }
    boundsHit.withLock { $0 = Dictionary(uniqueKeysWithValues: counters) }
  }

  public func canonical(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void) { CanonicalDigest.fold(uri, write) }

  public func judge(_ call: JudgeCall) {
    let message = RuleMessage(call.message)
    if book.isQuick(message) {
      complete(call, book.judge(message))
    } else {
      call.later { _ in self.complete(call, self.book.judge(RuleMessage(call.message))) }
    }
  }

  private func complete(_ call: JudgeCall, _ verdict: RuleVerdict) {
    switch verdict {
    case .refused(let text, let bound):
      if let bound { boundsHit.withLock { $0[bound] }?.increment() }
      call.reject(text)
    case .accepted(let envelope, let unless):
      var op = call.storing
      if unless != nil { op.condition = BP_IF_ABSENT }
      Array((unless ?? "").utf8).withUnsafeBufferPointer { refusal in
        op.refusal = bp_view(refusal)
        guard let envelope else { return call.accept(op) }
        do throws(Refusal) {
          try EnvelopeVerdict(envelope, storedBy: op) { uri, _ throws(Refusal) in
            // Every other URI is judged with its output; an op without one is no op.
            if uri.isEmpty { throw Refusal("Invalid output URI: ") }
          }.withOps { call.accept($0) }
        } catch {
          call.reject(error.text)
        }
      }
    }
  }

  /// Proves that what the rules use is there and works: a JSON Schema and a regular expression.
  public func selfTest(scratchDirectory: String) async throws {
    try RuleBook.selfTest()
  }
}

extension RuleValue {
  /// What a self-test runs on.
  fileprivate static let sample = RuleValue.mapping([
    Member("version", .integer(1)), Member("programs", .mapping([Member("mutable://open", .text("allow"))])),
  ])
}

extension RuleMessage {
  init(_ message: bp_message) {
    self.init(
      isDelete: message.verb == BP_VERB_DELETE, uri: message.uri.bytes, uriReceived: message.uri_received.bytes,
      program: message.program.bytes, content: MessageContent(message), depth: Int(message.depth))
  }
}
