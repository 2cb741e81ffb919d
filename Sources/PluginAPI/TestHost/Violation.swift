/// One breach of the boundary's manners by the plugin under test. A test ends with `#expect(host.violations.isEmpty)`.
public struct Violation: Sendable, Equatable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    /// A token was completed a second time.
    case completedTwice
    /// A token that this host never gave out was completed or emitted to.
    case unknownToken
    /// A token of another instance was completed or emitted to.
    case foreignToken
    /// `stop` returned and a token was still open.
    case neverCompleted
    /// A token was completed after `stop` had returned.
    case completedAfterStop
    /// A host function was called after `destroy` had returned: a thread was not joined.
    case calledAfterDestroy
    /// A function that is declared direct returned before it had completed its token.
    case directNotCompleted
    /// `result.size` is smaller than the kind's result struct.
    case resultTooSmall
    /// A table is missing, smaller than its first release, or has a function missing.
    case tableMalformed
    /// Text that must be UTF-8 is not.
    case textNotUTF8
    /// A chunk was refused for want of credit and the plugin emitted again before a grant. (One refusal is how a plugin
    /// learns that it has to wait; the second says that it does not.)
    case emittedBeyondCredits
    /// A chunk costs at least one credit.
    case chunkWithoutCost
    /// A chunk was emitted to a token that was completed already.
    case emittedAfterCompletion
    /// `bp_host.grant` named a call that takes no input.
    case grantWithoutInput
    /// A metric was defined outside of `start`.
    case metricOutsideStart
    /// A life-cycle function failed and reported no error: the operator would read nothing.
    case failedWithoutDiagnostic
    /// A life-cycle or blocking function did not return in time; the instance is abandoned, not destroyed.
    case didNotReturn
    /// A verdict accepts without ops, a page is larger than asked, a cursor is too long: the kind's own rules.
    case malformedResult
  }

  public let kind: Kind
  /// One sentence.
  public let text: String

  public var description: String { "\(kind.rawValue): \(text)" }
}
