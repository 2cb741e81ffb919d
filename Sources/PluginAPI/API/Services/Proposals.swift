/// What a proposal asks for besides (service.h, `BP_PROPOSAL_*`).
public struct ProposalFlags: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Slots that the node loses by it may take records with them that only they had in memory.
  public static let losesState = ProposalFlags(rawValue: BP_PROPOSAL_LOSES_STATE)
  /// What was refused before is tried again, though nothing of it has changed.
  public static let retries = ProposalFlags(rawValue: BP_PROPOSAL_RETRIES)
}

/// How a proposal ended. Unless it was taken, the one before stays in place.
public struct ProposalOutcome: Sendable, Equatable {
  /// A code of core.h with a name for what it means here.
  public struct Code: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: bp_code
    public init(rawValue: bp_code) { self.rawValue = rawValue }

    /// It is in place, or was already.
    public static let taken = Code(rawValue: BP_OK)
    /// It is no configuration: `message` says why, with JSON pointers into the proposal.
    public static let invalid = Code(rawValue: BP_INVALID_ARGUMENT)
    /// The reload refused it; `message` has the receipt's reasons. `isRetryable`: the same may be taken later.
    public static let rejected = Code(rawValue: BP_REJECTED)
    /// The slot has no `may_propose: true`.
    public static let forbidden = Code(rawValue: BP_PERMISSION_DENIED)
    /// The node is ending, or goes on in another process.
    public static let unavailable = Code(rawValue: BP_UNAVAILABLE)

    public var description: String {
      switch self {
      case .taken: "taken"
      case .invalid: "invalid"
      case .rejected: "rejected"
      case .forbidden: "forbidden"
      case .unavailable: "unavailable"
      default: "code \(rawValue)"
      }
    }
  }

  public var code: Code
  /// Sentences for a person; empty when it was taken.
  public var message: String
  /// The same proposal may be taken later: nothing that is wrong is its own fault.
  public var isRetryable: Bool
  /// The receipt's number in the node's history; 0 when there is none there (nothing new came of it).
  public var receipt: UInt64
  /// The generation that serves now.
  public var generation: UInt64
  /// The receipt as JSON, as `backplane reload --json` prints it; empty when no reload was tried.
  public var receiptJSON: String

  public var isTaken: Bool { code == .taken }

  public init(
    _ code: Code, _ message: String = "", isRetryable: Bool = false, receipt: UInt64 = 0, generation: UInt64 = 0,
    receiptJSON: String = ""
  ) {
    self.code = code
    self.message = message
    self.isRetryable = isRetryable
    self.receipt = receipt
    self.generation = generation
    self.receiptJSON = receiptJSON
  }

  init(_ result: UnsafePointer<bp_result>) {
    self.init(
      Code(rawValue: result.pointee.code), result.pointee.message.text,
      isRetryable: result.pointee.flags & BP_RETRYABLE != 0)
    guard result.pointee.size >= .size(of: bp_proposal_result.self) else { return }
    let whole = UnsafeRawPointer(result).assumingMemoryBound(to: bp_proposal_result.self).pointee
    receipt = whole.receipt
    generation = whole.generation
    receiptJSON = result.pointee.detail.text
  }
}

extension Context {
  /// Proposes a configuration of the node: a layer over files, environment and flags, tried as one reload transaction.
  ///
  /// For services whose slot has `may_propose: true`, from `nodeReady` on. What it may hold, and what becomes of it:
  /// backplane/service.h and docs/services.md. Suspends until the reload has ended, at most about
  /// `limits.reload_timeout_ms`; the instance itself goes on serving meanwhile. A task that is cancelled gives the
  /// answer up (`BP_CANCELLED`); a reload that has begun goes on.
  ///
  /// - Parameter json: the whole proposal, which replaces the one before; empty: withdraws it.
  /// - Throws: `Failure` where the host takes no proposals (a probe).
  public func propose(json: String, flags: ProposalFlags = []) async throws -> ProposalOutcome {
    guard let table = host.extensionTable("backplane.proposal/1", as: bp_proposals.self) else {
      throw Failure.unavailable("this host takes no proposals")
    }
    let pending = PendingAnswer(host)
    return await withTaskCancellationHandler {
      await withUnsafeContinuation { continuation in
        let completion = pending.completion { continuation.resume(returning: ProposalOutcome($0)) }
        var call = bp_call()
        call.size = .size(of: bp_call.self)
        let token = json.withView { view in
          var proposal = bp_proposal(size: .size(of: bp_proposal.self), flags: flags.rawValue, json: view)
          return table.pointee.propose(host.instance, &call, &proposal, completion)
        }
        pending.isNamed(token)
      }
    } onCancel: {
      pending.cancel()
    }
  }
}
