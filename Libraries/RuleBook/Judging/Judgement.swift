import ICUShim
import JSONText
import PluginAPI
import SchemaSupport

/// A message to judge. Borrows.
package struct RuleMessage {
  package var isDelete: Bool
  /// In normal form; empty when it is no URI.
  package var uri: BorrowedBytes
  package var uriReceived: BorrowedBytes
  package var program: BorrowedBytes
  package var content: MessageContent
  /// Above 0: an output of an envelope.
  package var depth: Int

  package init(
    isDelete: Bool, uri: BorrowedBytes, uriReceived: BorrowedBytes, program: BorrowedBytes, content: MessageContent,
    depth: Int
  ) {
    self.isDelete = isDelete
    self.uri = uri
    self.uriReceived = uriReceived
    self.program = program
    self.content = content
    self.depth = depth
  }
}

/// What the rules say to a message.
package enum RuleVerdict {
  /// It is stored (or deleted), an envelope's outputs being judged after it. `unless`: only when there is no record yet;
  /// what the client is told otherwise.
  case accepted(envelope: MessageEnvelope?, unless: String?)
  /// With this text for the client. `bound`: because that was hit.
  case refused(String, bound: RuleBound? = nil)
}

/// A bound of `limits`, by its key.
package enum RuleBound: String, CaseIterable, Sendable {
  case time = "time_ms_max"
  case jsonSchemaSize = "json_schema_size_bytes_max"
  case jsonSchemaDepth = "json_schema_depth_max"
}

/// One rule as it was judged.
package struct RuleStep: Equatable, Sendable {
  /// Of the rule in the file; empty for what holds whatever the file says.
  package var pointer: String
  package var word: String
  package var holds: Bool
  /// Why not, or on which condition; empty when there is nothing to say.
  package var reason: String
  /// How deep it stands in `any` and `all`.
  package var depth: Int
}

extension RuleBook {
  /// Whether the message is judged in a few microseconds, so that an event loop may wait for it.
  package func isQuick(_ message: RuleMessage) -> Bool {
    guard message.content.bytes.count <= 32 << 10 else { return false }
    guard let rules = rules(of: message.program)?.rules else { return true }
    if rules.contains(where: \.isSlow) { return false }
    // Each signature takes some 50 us, and has 200 bytes.
    return message.content.bytes.count <= 1600 || !rules.contains(where: \.hasSignatures)
  }

  /// Judges a message. Blocks for at most `time_ms_max` and a little.
  /// - Parameter explain: called for every rule that was looked at, in order.
  package func judge(_ message: RuleMessage, explain: ((RuleStep) -> Void)? = nil) -> RuleVerdict {
    do throws(Refusal) {
      return try verdict(message, explain)
    } catch {
      return .refused(error.text)
    }
  }

  private func verdict(_ message: RuleMessage, _ explain: ((RuleStep) -> Void)?) throws(Refusal) -> RuleVerdict {
    guard !message.uri.isEmpty else { throw try Self.refusalOfUnparsable(message) }
    guard let program = rules(of: message.program) else {
      throw Refusal("Unknown program: \(String(decoding: message.program, as: UTF8.self))")
    }
    if message.isDelete {
      if program.allowsDeletes { return .accepted(envelope: nil, unless: nil) }
      explain?(RuleStep(pointer: "", word: "delete", holds: false, reason: "delete: none", depth: 0))
      throw Refusal("Records of this program are not deleted.")
    }
    if DigestRule.covers(message.uri) {
      do throws(Refusal) {
        try DigestRule.check(message.uri, message.content)
        explain?(RuleStep(pointer: "", word: "digest", holds: true, reason: "", depth: 0))
      } catch {
        explain?(RuleStep(pointer: "", word: "digest", holds: false, reason: error.text, depth: 0))
        throw error
      }
    }
    let envelope = try EnvelopeText.find(in: message.content)
    var subject = RuleSubject(
      message: message, envelope: envelope, deadlineNs: icu_shim_now_ns() + Int64(limits.timeMsMax) * 1_000_000,
      timeMsMax: limits.timeMsMax)
    switch subject.judge(all: program.rules, depth: 0, explain) {
    case .holds: return .accepted(envelope: envelope, unless: nil)
    case .holdsIfAbsent(let text): return .accepted(envelope: envelope, unless: text)
    case .fails(let text): return .refused(text, bound: subject.boundHit)
    }
  }

  private static func refusalOfUnparsable(_ message: RuleMessage) throws(Refusal) -> Refusal {
    if message.depth > 0 {
      return DigestRule.coversUnparsable(message.uriReceived)
        ? DigestRule.invalid : Refusal("Invalid output URI: \(String(decoding: message.uriReceived, as: UTF8.self))")
    }
    if try EnvelopeText.find(in: message.content) != nil { return Refusal("Invalid envelope URI format") }
    return DigestRule.coversUnparsable(message.uriReceived) ? DigestRule.invalid : Refusal("Invalid URI format")
  }
}
