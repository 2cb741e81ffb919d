/// A program that a schema serves: the first two parts of a URI.
public struct Program: Sendable, Equatable {
  /// `mutable://open`; empty for the fallback.
  public var key: String
  /// Every program that no other schema claims.
  public var isFallback = false
  /// `canonical` is asked for URIs of this program.
  public var isCanonical = false
  /// Not named in the list that clients see.
  public var isUnlisted = false

  public init(_ key: String, isCanonical: Bool = false, isUnlisted: Bool = false) {
    self.key = key
    self.isCanonical = isCanonical
    self.isUnlisted = isUnlisted
  }

  /// Every program that no other schema claims; not listed.
  public static var fallback: Program {
    var program = Program("", isUnlisted: true)
    program.isFallback = true
    return program
  }

  var flags: UInt32 {
    (isFallback ? BP_PROGRAM_FALLBACK : 0) | (isCanonical ? BP_PROGRAM_CANONICAL : 0)
      | (isUnlisted ? BP_PROGRAM_UNLISTED : 0)
  }
}

/// A schema, the easy way: one async method on values.
public protocol Schema: Plugin {
  /// Whether deletes are judged too (`Message.isDelete`). Asked once, after `init`; false by default.
  var judgesDeletes: Bool { get }

  /// Asked once, after `init`.
  var programs: [Program] { get }

  /// Judges a message. `reader` reads through the node and sees the earlier ops of the same message. A thrown error is
  /// a failure of the schema, not a verdict.
  func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict
}

extension Schema {
  public var judgesDeletes: Bool { false }
}

/// A message to judge.
public struct Message: Sendable {
  /// In normal form; empty when `uriReceived` is not a URI (only the fallback sees those).
  public var uri: String
  /// As the client wrote it: quote this one in errors.
  public var uriReceived: String
  /// `mutable://open`.
  public var program: String
  /// The record is to go; `data` is empty then. Only where the schema `judgesDeletes`.
  public var isDelete: Bool
  public var data: [UInt8]
  public var content: Content
  public var timestampMs: UInt64
  /// 0: as received; else how many verdicts above asked for this judgement.
  public var depth: Int
}

/// What a schema says.
public enum Verdict: Sendable {
  /// Store the message as it is; of a delete: delete.
  case accept
  /// Store it on a condition (`.absent`: write-once). `otherwise` is what the client is told when it does not hold;
  /// empty: the node's own words.
  case acceptIf(Condition, otherwise: String = "")
  /// Store these ops instead.
  case ops([Op])
  /// Refuse; the text goes to the client as it is.
  case reject(String)
}

/// Reads for a validator, on behalf of the message being judged.
public struct JudgeReader: Sendable {
  let node: NodeAccess
  let token: bp_token

  public func read(_ uri: String) async throws -> Record? { try await node.read(uri, parent: token) }
}
