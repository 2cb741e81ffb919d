import JSONText
import PluginAPI
import SchemaSupport

/// The schema of a node that accepts every program. Two rules are left: what is stored under `hash://` has the digest
/// that its URI says, and an envelope stores its outputs besides itself, each judged by the schema of its own program.
///
/// The texts of its refusals are the reference node's. Where that node lets a wrong digest through (an envelope's own,
/// outputs of nested envelopes) this schema does not.
public final class Permissive: DirectSchema {
  public static let judgeMode = CallMode.direct
  public static let threads = 1

  /// None of them is listed: clients of a permissive node see an empty list of programs.
  public let programs: [Program] = [.fallback, Program("hash://sha256", isCanonical: true, isUnlisted: true)]

  public init(_ configuration: NoConfiguration, _ context: Context) {}

  public func judge(_ call: JudgeCall) {
    let message = call.message
    // Deletes are not asked for; one that comes all the same is none of this schema's business.
    guard message.verb == BP_VERB_PUT else { return call.accept() }
    do throws(Refusal) {
      let content = MessageContent(message)
      if let envelope = try EnvelopeText.find(in: content) {
        guard message.uri.size > 0 else { throw Refusal("Invalid envelope URI format") }
        if DigestRule.covers(message.uri.bytes) { try DigestRule.check(message.uri.bytes, content) }
        var reader = OutputURIReader()
        try EnvelopeVerdict(envelope, storedBy: call.storing) { uri, content throws(Refusal) in
          try Self.checkOutput(uri, content, &reader)
        }.withOps { call.accept($0) }
      } else {
        guard message.uri.size > 0 else {
          if DigestRule.coversUnparsable(message.uri_received.bytes) { throw DigestRule.invalid }
          throw Refusal("Invalid URI format")
        }
        if DigestRule.covers(message.uri.bytes) { try DigestRule.check(message.uri.bytes, content) }
        call.accept()
      }
    } catch {
      call.reject(error.text)
    }
  }

  /// The digest first, then the URI: the order of the reference.
  private static func checkOutput(
    _ uri: BorrowedBytes, _ content: MessageContent, _ reader: inout OutputURIReader
  ) throws(Refusal) {
    try reader.read(uri) { normalised throws(Refusal) in
      guard let normalised else {
        if DigestRule.coversUnparsable(uri) { throw DigestRule.invalid }
        throw Refusal("Invalid output URI: \(String(decoding: uri, as: UTF8.self))")
      }
      if DigestRule.covers(normalised) { try DigestRule.check(normalised, content) }
    }
  }

  public func canonical(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void) { CanonicalDigest.fold(uri, write) }

  /// Proves that the digest library is there and computes: RFC 8785 text and SHA-256 of `{"b":1,"a":2}`.
  public func selfTest(scratchDirectory: String) async throws {
    do throws(Refusal) {
      try DigestRule.checkKnownDigest()
    } catch {
      throw Failure.internal("The digest of a known value came out wrong (\(error.text)): libsodium is not usable.")
    }
  }
}
