import BackendSupport
import PluginAPI

/// A unit whose documents are made.
struct PreparedUnit {
  let call: UnitCall
  /// By op; nil for a delete.
  let fields: [BSONBuilder?]
  let sizeBytes: Int
  let nowMs: Int64

  /// Throws what is wrong with the unit whatever the server holds.
  init(_ call: UnitCall, collection: String, nowMs: Int64) throws(Failure) {
    let encoder = RecordEncoder(
      collection: collection, nowMs: nowMs, timestampMs: call.timestampMs, version: call.version)
    var fields: [BSONBuilder?] = []
    var sizeBytes = 0
    for index in 0..<call.count {
      let op = call[index]
      if let problem = op.problem { throw problem }
      if op.uri.size > Layout.uriBytesMax {
        throw .invalid(
          "the URI has \(op.uri.size) bytes; the MongoDB backend keeps URIs of up to \(Layout.uriBytesMax)")
      }
      let document = op.isDelete ? nil : try encoder.fields(of: op)
      fields.append(document)
      sizeBytes += (document?.count ?? 0) + Int(op.uri.size)
    }
    self.call = call
    self.fields = fields
    self.sizeBytes = sizeBytes
    self.nowMs = nowMs
  }

  /// One put that one statement of a bulk can decide: there or not, its outcome can be told from the others'.
  var isBulkPut: Bool {
    guard call.count == 1 else { return false }
    let op = call[0]
    return !op.isDelete && (op.condition == BP_IF_ANY || op.condition == BP_IF_ABSENT)
  }

  /// The update that puts the record of the one op of this unit; a first put changes nothing when there is a record.
  func update() -> BSONBuilder { call[0].condition == BP_IF_ABSENT ? firstUpdate() : update(of: 0) }

  /// The update that puts the record of op `index`, whatever there is.
  func update(of index: Int) -> BSONBuilder {
    let update = BSONBuilder()
    update.append("$set", document: fields[index]!)
    update.nest("$setOnInsert") { $0.append("createdAt", dateMs: nowMs) }
    return update
  }

  private func firstUpdate() -> BSONBuilder {
    let update = BSONBuilder()
    update.nest("$setOnInsert") { all in
      all.append(fieldsOf: fields[0]!)
      all.append("createdAt", dateMs: nowMs)
    }
    return update
  }
}
