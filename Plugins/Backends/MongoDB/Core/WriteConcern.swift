import CMongoC
import PluginAPI

/// What an acknowledgement of the server's means, as the URL asks for it.
struct WriteConcern: Sendable, Equatable {
  enum Members: Sendable, Equatable {
    case majority
    case count(Int)
    /// A rule that the administrator has given a name; what it means is not for us to know.
    case named(String)
  }

  var members: Members
  /// Acknowledged members have the write in their journal on disk.
  var isJournaled: Bool

  init(members: Members, isJournaled: Bool) {
    self.members = members
    self.isJournaled = isJournaled
  }

  /// Reads the URL's `w` and `journal`, and sets what it leaves open: `w=majority` (the servers' own default depends on
  /// their version and configuration), the journal for a majority, and a time limit, without which a write that a
  /// secondary does not confirm would wait for ever.
  init(settling uri: OpaquePointer, timeoutMs: Int) throws(ConfigurationErrors) {
    let given = mongoc_uri_get_write_concern(uri)
    let concern = mongoc_write_concern_copy(given)
    defer { mongoc_write_concern_destroy(concern) }
    let isJournalGiven = mongoc_write_concern_journal_is_set(concern)
    switch mongoc_write_concern_get_w(concern) {
    case MONGOC_WRITE_CONCERN_W_UNACKNOWLEDGED, MONGOC_WRITE_CONCERN_W_ERRORS_IGNORED:
      throw ConnectionString.problem(
        "w=0 in the url asks the server for no acknowledgement, so none could be given for a record; write w=majority, "
          + "or w=1 for speed")
    case MONGOC_WRITE_CONCERN_W_DEFAULT, MONGOC_WRITE_CONCERN_W_MAJORITY:
      members = .majority
      mongoc_write_concern_set_w(concern, MONGOC_WRITE_CONCERN_W_MAJORITY)
      if !isJournalGiven { mongoc_write_concern_set_journal(concern, true) }
    case MONGOC_WRITE_CONCERN_W_TAG:
      members = .named(mongoc_write_concern_get_wtag(concern).map { String(cString: $0) } ?? "")
    case let count: members = .count(Int(count))
    }
    isJournaled = mongoc_write_concern_journal_is_set(concern) && mongoc_write_concern_get_journal(concern)
    if mongoc_write_concern_get_wtimeout_int64(concern) <= 0 {
      mongoc_write_concern_set_wtimeout_int64(concern, Int64(timeoutMs))
    }
    mongoc_uri_set_write_concern(uri, concern)
  }

  /// The least that an acknowledgement promises on this deployment: what holds in every failure that the level names.
  func durability(on deployment: Deployment) -> Durability {
    // In the journal of nobody we know of, so a crash of mongod takes it.
    guard isJournaled else { return .memory }
    switch deployment.kind {
    case .standalone: return .disk
    case .replicaSet:
      // One member that can be primary: its journal decides.
      if deployment.electableCount <= 1 { return .disk }
      // What is not on a majority of those who vote is rolled back when another member becomes primary, whatever was on
      // a disk; and a number says nothing of who votes.
      return members == .majority ? .quorum : .memory
    // A majority of each shard, of which we do not know how many members it has.
    case .sharded: return members == .majority ? .disk : .memory
    }
  }
}
