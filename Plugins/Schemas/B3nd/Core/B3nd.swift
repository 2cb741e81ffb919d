import JSONText
import MessageCrypto
import PluginAPI
import SchemaSupport

/// The schema of the b3nd protocol: the programs of the reference's example schema, and programs of one's own under the
/// same rules. The texts of refusals are the reference node's. Where that node lets something through that its rules
/// forbid (a forged digest in an envelope, a write-once record written twice), this schema does not.
///
/// Nothing is read to find out whether a record may be written: write-once is a condition of the write itself.
public final class B3nd: DirectSchema {
  /// Most messages are judged before `judge` returns; see `isQuick`.
  public static let judgeMode = CallMode.async
  public static let threads = 2

  /// Judging more than this may take a millisecond: it happens on a thread of the instance's own, and not on the event
  /// loop that the message came by.
  private static let quickSizeBytesMax = 32 << 10
  /// Likewise for more signatures than this, of which each takes some 50 us.
  private static let quickSignaturesMax = 8
  /// An entry with key and signature has no fewer bytes.
  private static let signatureSizeBytesMin = 200

  private let table: ProgramTable
  private let deletes: DeletePolicy
  public let programs: [Program]
  public var judgesDeletes: Bool { deletes != .open }

  public init(_ configuration: B3ndConfiguration, _ context: Context) {
    table = ProgramTable(configuration.programs)
    deletes = configuration.deletes
    programs =
      configuration.programs.map { Program($0.key, isCanonical: $0.key == "hash://sha256") }
      + (configuration.isFallback ? [.fallback] : [])
  }

  public func canonical(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void) { CanonicalDigest.fold(uri, write) }

  public func judge(_ call: JudgeCall) {
    let rule = call.message.program.size == 0 ? nil : table.rule(of: call.message.program.bytes)
    if isQuick(call.message, rule) {
      complete(call, with: outcome(of: call, rule))
    } else {
      call.later { _ in self.complete(call, with: self.outcome(of: call, rule)) }
    }
  }

  private func isQuick(_ message: bp_message, _ rule: Rule?) -> Bool {
    let size = Int(message.data.size)
    guard size <= Self.quickSizeBytesMax else { return false }
    guard let rule, rule.hasOwner, size > Self.quickSignaturesMax * Self.signatureSizeBytesMin else { return true }
    return OwnerRule.entryCount(of: MessageContent(message)) <= Self.quickSignaturesMax
  }

  // MARK: Judging

  private enum Outcome {
    /// This op; `refusal` is what the client is told when its condition does not hold.
    case op(bp_op, refusal: [UInt8])
    /// An envelope and its outputs.
    case envelope(MessageEnvelope, storedBy: bp_op, refusal: [UInt8])
    case refused(Refusal)
    /// The digest is wrong, but a record that stands there already is the first thing to be said.
    case refusedUnlessExisting(Refusal)
  }

  private func outcome(of call: JudgeCall, _ rule: Rule?) -> Outcome {
    let message = call.message
    let content = MessageContent(message)
    do throws(Refusal) {
      if message.verb == BP_VERB_DELETE {
        try DeleteRule.check(deletes, rule)
        return .op(call.storing, refusal: [])
      }
      guard let rule else { throw try Self.refusalOfUnknown(message, content) }
      if DigestRule.covers(message.uri.bytes) {
        do throws(Refusal) {
          try DigestRule.check(message.uri.bytes, content)
        } catch {
          return rule == .hash ? .refusedUnlessExisting(error) : .refused(error)
        }
      }
      return try outcome(of: call, content, rule)
    } catch {
      return .refused(error)
    }
  }

  private func outcome(of call: JudgeCall, _ content: MessageContent, _ rule: Rule) throws(Refusal) -> Outcome {
    let message = call.message
    var envelope: MessageEnvelope?
    switch rule {
    case .open, .writeOnce, .hash: envelope = try EnvelopeText.find(in: content)
    case .link: try LinkRule.check(content)
    case .account, .writeOnceAccount, .accountLink:
      let payload = try OwnerRule.payload(
        of: content, at: message.uri.bytes, programCount: Int(message.program.size))
      if deletes == .owner, !rule.isWriteOnce, DeleteRule.isRequest(payload, at: message.uri.bytes) {
        return .op(Self.deleting(message), refusal: [])
      }
      if rule == .accountLink { try LinkRule.check(payload) } else { envelope = MessageEnvelope.find(payload: payload) }
    }
    var op = call.storing
    var refusal: [UInt8] = []
    if rule.isWriteOnce {
      op.condition = BP_IF_ABSENT
      refusal = Array(Self.refusalOfExisting(message, rule, isEnvelope: envelope != nil).utf8)
    }
    return envelope.map { .envelope($0, storedBy: op, refusal: refusal) } ?? .op(op, refusal: refusal)
  }

  private static func deleting(_ message: bp_message) -> bp_op {
    bp_op(
      size: .size(of: bp_op.self), verb: BP_VERB_DELETE, condition: BP_IF_ANY, content: BP_CONTENT_BYTES,
      if_version: 0, flags: 0, reserved: 0, uri: message.uri, data: .empty, refusal: .empty)
  }

  // MARK: In the reference's words

  private static let digestExists = "hash:// is write-once: resource already exists"

  /// A validator that gives no reason gets one by the place it was asked at.
  private static func refusalOfExisting(_ message: bp_message, _ rule: Rule, isEnvelope: Bool) -> String {
    if rule == .hash { return digestExists }
    if rule == .writeOnceAccount { return "immutable object exists" }
    if message.depth > 0 { return "Validation failed for output: \(message.uri_received.text)" }
    return isEnvelope ? "Envelope validation failed" : "Validation failed"
  }

  /// A message for a program that nobody serves, or to what is no URI.
  private static func refusalOfUnknown(_ message: bp_message, _ content: MessageContent) throws(Refusal) -> Refusal {
    guard message.uri.size > 0 else {
      let received = message.uri_received
      if message.depth > 0 {
        return DigestRule.coversUnparsable(received.bytes)
          ? DigestRule.invalid : Refusal("Invalid output URI: \(received.text)")
      }
      if try EnvelopeText.find(in: content) != nil { return Refusal("Invalid envelope URI format") }
      return DigestRule.coversUnparsable(received.bytes) ? DigestRule.invalid : Refusal("Invalid URI format")
    }
    if DigestRule.covers(message.uri.bytes) { try DigestRule.check(message.uri.bytes, content) }
    return Refusal("Unknown program: \(message.program.text)")
  }

  // MARK: Completing

  private func complete(_ call: JudgeCall, with outcome: Outcome) {
    switch outcome {
    case .op(var op, let refusal):
      refusal.withUnsafeBufferPointer {
        op.refusal = bp_view($0)
        call.accept(op)
      }
    case .envelope(let envelope, var op, let refusal):
      refusal.withUnsafeBufferPointer { refusal in
        op.refusal = bp_view(refusal)
        do throws(Refusal) {
          // What else is wrong with an output its own judgement says; an op must have a URI of some kind.
          try EnvelopeVerdict(envelope, storedBy: op) { uri, _ throws(Refusal) in
            if uri.isEmpty { throw Refusal("Invalid output URI: ") }
          }.withOps { call.accept($0) }
        } catch {
          call.reject(error.text)
        }
      }
    case .refused(let refusal): call.reject(refusal.text)
    case .refusedUnlessExisting(let refusal):
      call.later { reader in
        do {
          let existing = try await reader.read(call.message.uri.text)
          call.reject(existing == nil ? refusal.text : Self.digestExists)
        } catch {
          // The message is refused in any case, and the digest is reason enough.
          call.reject(refusal.text)
        }
      }
    }
  }
}
