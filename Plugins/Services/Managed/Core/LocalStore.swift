import JSONText
import PluginAPI

/// Records of this node itself.
struct LocalStore: ManagementStore {
  let node: NodeAccess
  let name: String

  func read(_ uri: String) async throws(Trouble) -> StoredRecord? {
    do {
      guard let record = try await node.read(uri) else { return nil }
      guard record.content == .json else { throw Trouble("the record at \(uri) is no JSON") }
      return StoredRecord(data: record.data, timestampMs: Double(record.timestampMs))
    } catch {
      throw error as? Trouble ?? Trouble("this node cannot be read: \(Failure(error).message)")
    }
  }

  func write(_ uri: String, _ data: [UInt8]) async throws(Trouble) {
    do {
      try await node.receive(uri, data, .json)
    } catch {
      let failure = Failure(error)
      throw Trouble("this node refuses it: \(failure.message)", isRefusal: failure.code == BP_REJECTED)
    }
  }
}
