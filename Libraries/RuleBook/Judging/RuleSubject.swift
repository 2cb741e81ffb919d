import ICUShim
import JSONText
import MessageCrypto
import PluginAPI
import SchemaSupport
import URIText

/// One message under the rules of its program.
struct RuleSubject {
  let message: RuleMessage
  let envelope: MessageEnvelope?
  /// CLOCK_MONOTONIC.
  let deadlineNs: Int64
  let timeMsMax: Int
  /// The last bound of `limits` that was hit.
  private(set) var boundHit: RuleBound?

  init(message: RuleMessage, envelope: MessageEnvelope?, deadlineNs: Int64, timeMsMax: Int) {
    self.message = message
    self.envelope = envelope
    self.deadlineNs = deadlineNs
    self.timeMsMax = timeMsMax
  }

  enum Outcome {
    case holds
    /// When there is no record yet; what the client is told otherwise.
    case holdsIfAbsent(String)
    /// What the client is told.
    case fails(String)
  }

  /// All must hold; the first that does not ends it, unless everything is to be explained.
  mutating func judge(all rules: [PlacedRule], depth: Int, _ explain: ((RuleStep) -> Void)?) -> Outcome {
    var result = Outcome.holds
    for rule in rules {
      switch judge(rule, depth: depth, explain) {
      case .holds: break
      case .holdsIfAbsent(let text):
        // The first one's words.
        if case .holds = result { result = .holdsIfAbsent(text) }
      case .fails(let text):
        if explain == nil { return .fails(text) }
        if case .fails = result {} else { result = .fails(text) }
      }
    }
    return result
  }

  /// One must hold. One that holds without a condition comes before one that holds on one.
  private mutating func judge(any rules: [PlacedRule], depth: Int, _ explain: ((RuleStep) -> Void)?) -> Outcome {
    var conditional: String?
    var refusals: [String] = []
    for rule in rules {
      switch judge(rule, depth: depth, explain) {
      case .holds: return .holds
      case .holdsIfAbsent(let text): conditional = conditional ?? text
      case .fails(let text): if refusals.count < 8 { refusals.append(text) }
      }
    }
    if let conditional { return .holdsIfAbsent(conditional) }
    return .fails(refusals.count == 1 ? refusals[0] : "None of these holds: " + refusals.joined(separator: " | "))
  }

  private mutating func judge(_ placed: PlacedRule, depth: Int, _ explain: ((RuleStep) -> Void)?) -> Outcome {
    var outcome = icu_shim_now_ns() < deadlineNs ? judge(placed.rule, depth, explain) : overdue()
    if case .fails = outcome, let otherwise = placed.otherwise { outcome = .fails(otherwise) }
    if case .holdsIfAbsent = outcome, let otherwise = placed.otherwise { outcome = .holdsIfAbsent(otherwise) }
    if let explain {
      var step = RuleStep(pointer: placed.pointer, word: placed.word, holds: true, reason: "", depth: depth)
      switch outcome {
      case .holds: break
      case .holdsIfAbsent(let text): step.reason = "if there is no record yet; else: \(text)"
      case .fails(let text): (step.holds, step.reason) = (false, text)
      }
      explain(step)
    }
    return outcome
  }

  private mutating func overdue() -> Outcome {
    boundHit = .time
    return .fails("Judging the message takes longer than \(timeMsMax) ms (time_ms_max).")
  }

  private mutating func judge(_ rule: Rule, _ depth: Int, _ explain: ((RuleStep) -> Void)?) -> Outcome {
    switch rule {
    case .allow: return .holds
    case .deny(let text): return .fails(text)
    case .writeOnce(let text): return .holdsIfAbsent(text)
    case .any(let rules): return judge(any: rules, depth: depth + 1, explain)
    case .all(let rules): return judge(all: rules, depth: depth + 1, explain)
    case .content(let isJSON):
      if message.content.isJSON == isJSON { return .holds }
      return .fails(isJSON ? "This program takes JSON values only." : "This program takes bytes only.")
    case .sizeBytesMax(let sizeBytesMax):
      let count = message.content.bytes.count
      return count <= sizeBytesMax
        ? .holds : .fails("The value has \(count) bytes; \(sizeBytesMax) is the most that this program takes.")
    case .uriPattern(let pattern):
      switch pattern.matches(message.uri, deadlineNs: deadlineNs) {
      case .matches: return .holds
      case .differs: return .fails("The URI does not match the pattern of its program: \(pattern.text)")
      case .tooSlow: return overdue()
      case .failed: return .fails("The URI cannot be compared with the pattern of its program.")
      }
    case .jsonSchema(let schema, let name): return judge(schema, name)
    case .signedBy(let signers): return judge(signers)
    case .requiresOutput(let required): return judge(required)
    }
  }

  // MARK: JSON Schema

  private mutating func judge(_ schema: JSONSchema, _ name: String?) -> Outcome {
    let named = name.map { "the JSON Schema \"\($0)\"" } ?? "the JSON Schema of its program"
    guard message.content.isJSON else { return .fails("The value is bytes and does not fit \(named).") }
    switch schema.check(message.content.bytes, deadlineNs: deadlineNs) {
    case .fits: return .holds
    case .differs(let differences):
      return .fails("The value does not fit \(named): \(differences.map(\.description).joined(separator: "; "))")
    case .undecided(let reason, let bound):
      boundHit = bound ?? boundHit
      return .fails("The value cannot be checked against \(named): \(reason).")
    }
  }

  // MARK: Signatures

  private static let unverified = Outcome.fails("Signature verification failed")

  private func judge(_ signers: Signers) -> Outcome {
    guard message.content.isJSON, case .success(let value) = JSONScanner(depthMax: .max).scan(message.content.bytes)
    else { return Self.unverified }
    do throws(AuthenticationError) {
      guard let authenticated = try AuthenticatedMessage.find(in: value) else { return Self.unverified }
      let isVerified: Bool
      switch signers {
      case .owner: isVerified = try authenticated.verifies(by: owner, depthMax: DigestRule.depthMax)
      case .any(let keys):
        let found = try authenticated.verify(depthMax: DigestRule.depthMax).signers
        isVerified = keys.contains(where: found.contains)
      case .all(let keys):
        let found = try authenticated.verify(depthMax: DigestRule.depthMax).signers
        isVerified = keys.allSatisfy(found.contains)
      }
      return isVerified ? .holds : Self.unverified
    } catch {
      return .fails("Validation error: \(error)")
    }
  }

  /// The first segment of the path; empty at the root, which nobody owns.
  private var owner: BorrowedBytes {
    let uri = message.uri
    guard message.program.count < uri.count else { return BorrowedBytes(rebasing: uri[..<0]) }
    let path = uri[(message.program.count + 1)...]
    return BorrowedBytes(rebasing: path[..<(path.firstIndex(of: UInt8(ascii: "/")) ?? path.endIndex)])
  }

  // MARK: Outputs

  private mutating func judge(_ required: RequiredOutput) -> Outcome {
    let wanted = "an output to a URI that matches \(required.uriPattern.text)"
    guard let envelope else { return .fails("The message is no envelope; this program asks for one with \(wanted).") }
    var nearest: String?
    for output in envelope.outputs {
      guard icu_shim_now_ns() < deadlineNs else { return overdue() }
      var text: [UInt8] = []
      output.uri.appendText(to: &text)
      guard let uri = URIText.normalise(String(decoding: text, as: UTF8.self)).map({ Array($0.text.utf8) }) else {
        continue
      }
      let matching = uri.withUnsafeBufferPointer { required.uriPattern.matches($0, deadlineNs: deadlineNs) }
      if matching == .tooSlow { return overdue() }
      guard matching == .matches else { continue }
      switch value(of: output, fits: required) {
      case nil: return .holds
      case .some(let reason): nearest = nearest ?? reason
      }
    }
    guard let nearest else { return .fails("The envelope has not \(wanted).") }
    return .fails("The envelope has \(wanted), but \(nearest)")
  }

  /// Nil when the value is as required, or why not.
  private mutating func value(of output: EnvelopeOutput, fits required: RequiredOutput) -> String? {
    if let numberMin = required.numberMin {
      guard output.value.kind == .number, let number = Double(String(decoding: output.value.bytes, as: UTF8.self)),
        number >= numberMin
      else { return "its value is not a number of at least \(Self.shown(numberMin))." }
    }
    guard let schema = required.schema else { return nil }
    let bytes = BorrowedBytes(
      start: output.value.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), count: output.value.bytes.count)
    switch schema.check(bytes, deadlineNs: deadlineNs) {
    case .fits: return nil
    case .differs(let differences): return "its value does not fit: \(differences[0].description)"
    case .undecided(let reason, let bound):
      boundHit = bound ?? boundHit
      return "its value cannot be checked: \(reason)."
    }
  }

  private static func shown(_ number: Double) -> String {
    Int64(exactly: number).map { "\($0)" } ?? "\(number)"
  }
}
