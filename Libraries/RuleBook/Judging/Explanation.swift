import PluginAPI
import SchemaSupport
import URIText

/// What the rules say to one message and why: for people.
package struct Explanation: Sendable {
  package enum Verdict: Sendable, Equatable {
    case accepted
    case refused(String)
    /// The file says nothing of its program.
    case unknownProgram
  }

  package var uri: String
  /// Empty when the URI is none.
  package var program: String
  package var isDelete: Bool
  package var steps: [RuleStep] = []
  package var verdict: Verdict
  /// It is written only when there is no record yet; what the client is told otherwise.
  package var unless: String?
  /// The outputs of an envelope.
  package var outputs: [Explanation] = []

  /// Whether all of it would be accepted, as far as this file says.
  package var isAccepted: Bool {
    if case .refused = verdict { return false }
    return verdict == .accepted && outputs.allSatisfy { $0.isAccepted || $0.verdict == .unknownProgram }
  }
}

extension RuleBook {
  /// As the kernel has it.
  private static let envelopeDepthMax = 16

  /// Judges a message and everything in it.
  package func explain(
    uri: String, data: [UInt8], isJSON: Bool, isDelete: Bool = false, depth: Int = 0
  ) -> Explanation {
    RuleMessage.with(uri: uri, data: data, isJSON: isJSON, isDelete: isDelete, depth: depth) { message in
      var result = Explanation(
        uri: uri, program: String(decoding: message.program, as: UTF8.self), isDelete: isDelete, verdict: .accepted)
      if depth > 0, !message.uri.isEmpty, rules(of: message.program) == nil {
        result.verdict = .unknownProgram
        return result
      }
      switch judge(message, explain: { result.steps.append($0) }) {
      case .refused(let text, _): result.verdict = .refused(text)
      case .accepted(let envelope, let unless):
        result.unless = unless
        guard let envelope else { break }
        guard depth < Self.envelopeDepthMax else {
          result.verdict = .refused("Envelopes are nested deeper than \(Self.envelopeDepthMax) levels.")
          break
        }
        let own = bp_op(
          size: .size(of: bp_op.self), verb: BP_VERB_PUT, condition: BP_IF_ANY, content: BP_CONTENT_JSON, if_version: 0,
          flags: 0, reserved: 0, uri: .empty, data: .empty, refusal: .empty)
        do throws(Refusal) {
          try EnvelopeVerdict(envelope, storedBy: own).withOps { ops in
            for op in ops.dropFirst() {
              result.outputs.append(
                explain(
                  uri: String(decoding: op.uri.bytes, as: UTF8.self), data: Array(op.data.bytes),
                  isJSON: op.content == BP_CONTENT_JSON, depth: depth + 1))
            }
          }
        } catch {
          result.verdict = .refused(error.text)
        }
      }
      return result
    }
  }
}
