/// What a server can do wrong, once for each `times`.
public struct Fault: Sendable {
  public enum Kind: Sendable {
    /// Answers with this error and has done nothing.
    case error(code: Int32, name: String, text: String)
    /// Does it, and says that it was not confirmed as asked.
    case writeConcernError(code: Int32, text: String)
    /// Every statement of it fails.
    case writeErrors(code: Int32, text: String)
    /// Closes the connection and has done nothing.
    case dropBefore
    /// Does it and closes the connection without an answer.
    case dropAfter
    /// Does it and closes the connection in the middle of the answer.
    case dropMidReply
    /// Waits so long before it does it.
    case delay(milliseconds: Int)
  }

  /// `update`, `find`, `commitTransaction`, ...
  public var command: String
  public var kind: Kind
  /// How often; the largest number for ever.
  public var times: Int

  public init(_ command: String, _ kind: Kind, times: Int = 1) {
    self.command = command
    self.kind = kind
    self.times = times
  }
}

/// What the server says it is.
public enum Persona: Sendable, Equatable {
  /// A mongod on its own: no sessions that write again, no transactions.
  case standalone
  /// The primary of a replica set. `others`: names of further electable members, which nobody has to be.
  case replicaSet(name: String, others: [String] = [])
  case mongos
}
