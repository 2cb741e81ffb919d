/// How a call failed. Throw it from any method of a plugin; any other error becomes `internal` with its description.
public struct Failure: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String { message }

  /// From the closed list of core.h (`BP_*`).
  public var code: bp_code
  /// One sentence for the person who reads it: what was wrong, where, what to do. Never a secret.
  public var message: String
  /// The same request may succeed later, unchanged.
  public var isRetryable: Bool
  /// When, in milliseconds; 0: no advice.
  public var retryAfterMs: UInt32

  public init(code: bp_code, _ message: String, isRetryable: Bool = false, retryAfterMs: UInt32 = 0) {
    self.code = code
    self.message = message
    self.isRetryable = isRetryable
    self.retryAfterMs = retryAfterMs
  }

  /// The resource is not there now; trying again later is worth it.
  public static func unavailable(_ message: String, retryAfterMs: UInt32 = 0) -> Failure {
    Failure(code: BP_UNAVAILABLE, message, isRetryable: true, retryAfterMs: retryAfterMs)
  }

  /// A bound was hit; `message` names it.
  public static func exhausted(_ message: String, retryAfterMs: UInt32 = 0) -> Failure {
    Failure(code: BP_RESOURCE_EXHAUSTED, message, isRetryable: true, retryAfterMs: retryAfterMs)
  }

  /// The call's deadline has passed. Trying again is worth it: what was too slow for one call may be quicker then.
  public static func overdue(_ message: String) -> Failure {
    Failure(code: BP_DEADLINE_EXCEEDED, message, isRetryable: true)
  }

  /// The request makes no sense, whenever it is sent.
  public static func invalid(_ message: String) -> Failure { Failure(code: BP_INVALID_ARGUMENT, message) }

  /// Something that should not happen.
  public static func `internal`(_ message: String) -> Failure { Failure(code: BP_INTERNAL, message) }

  /// This plugin does not do that.
  public static func unimplemented(_ message: String) -> Failure { Failure(code: BP_UNIMPLEMENTED, message) }

  /// The failure that any thrown error stands for.
  public init(_ error: any Error) {
    switch error {
    case let failure as Failure: self = failure
    case is CancellationError: self = Failure(code: BP_CANCELLED, "the caller gave the call up")
    default: self = .internal("\(error)")
    }
  }

  /// Calls `body` with the result struct of this failure; its views are valid during the call.
  public func withResult<R>(size: UInt32 = .size(of: bp_result.self), _ body: (bp_result) -> R) -> R {
    message.withView { view in
      body(
        bp_result(
          size: size, code: code, flags: isRetryable ? BP_RETRYABLE : 0, retry_after_ms: retryAfterMs, message: view,
          detail: .empty))
    }
  }
}
