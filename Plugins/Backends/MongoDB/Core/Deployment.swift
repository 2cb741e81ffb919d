import CMongoC
import PluginAPI

/// What kind of servers there are, from a server's answer to `hello`.
struct Deployment: Sendable, Equatable {
  enum Kind: Sendable, Equatable {
    case standalone
    case replicaSet
    /// Behind mongos.
    case sharded
  }

  var kind: Kind
  /// Members of the replica set that can become primary: those vote, and have data.
  var electableCount: Int
  var hasTransactions: Bool

  init(hello: OpaquePointer) {
    func count(_ name: String) -> Int {
      guard let list = BSONReader(hello, at: name)?.fields else { return 0 }
      var count = 0
      while list.next() { count += 1 }
      return count
    }
    let wireVersion = BSONReader(hello, at: "maxWireVersion")?.integer ?? 0
    let hasSessions = BSONReader(hello, at: "logicalSessionTimeoutMinutes")?.integer != nil
    if let text = BSONReader(hello, at: "msg")?.text, bp_view(text).equals("isdbgrid") {
      kind = .sharded
      hasTransactions = hasSessions && wireVersion >= 8
    } else if BSONReader(hello, at: "setName") != nil {
      kind = .replicaSet
      hasTransactions = hasSessions && wireVersion >= 7
    } else {
      kind = .standalone
      hasTransactions = false
    }
    electableCount = count("hosts")
  }
}
