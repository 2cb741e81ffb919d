/// A refusal with the code and the name that a server would give (src/mongo/base/error_codes.yml).
struct ServerError: Error {
  var code: Int32
  var name: String
  var text: String
  var labels: [String] = []

  init(_ code: Int32, _ name: String, _ text: String, labels: [String] = []) {
    self.code = code
    self.name = name
    self.text = text
    self.labels = labels
  }

  static func commandNotFound(_ name: String) -> ServerError {
    ServerError(59, "CommandNotFound", "no such command: '\(name)'")
  }
  static func badValue(_ text: String) -> ServerError { ServerError(2, "BadValue", text) }
  static func failedToParse(_ text: String) -> ServerError { ServerError(9, "FailedToParse", text) }
  static func unknownField(_ name: Text, _ command: String) -> ServerError {
    ServerError(40_415, "IDLUnknownField", "BSON field '\(command).\(name)' is an unknown field.")
  }
  static let writeConflict = ServerError(
    112, "WriteConflict", "Write conflict during plan execution and yielding is disabled.",
    labels: ["TransientTransactionError"])
  static let snapshotGone = ServerError(
    246, "SnapshotUnavailable", "Unable to read from a snapshot due to pending collection catalog changes",
    labels: ["TransientTransactionError"])

  /// What servers since 4.4 say of an error, by which drivers decide whether to send a write again.
  static func labels(_ code: Int32, _ command: Document) -> [String] {
    let passing: Set<Int32> = [10_107, 13_435, 11_602, 11_600, 189, 91, 6, 7, 89, 9_001, 262]
    guard command["txnNumber"] != nil else { return [] }
    if command["autocommit"] == nil || command.fields.first?.name == "commitTransaction" {
      return passing.contains(code) ? ["RetryableWriteError"] : []
    }
    return passing.union([112, 251, 246, 24]).contains(code) ? ["TransientTransactionError"] : []
  }

  var reply: Document {
    var reply: Document = [
      "ok": .double(0), "errmsg": .text(Text(text)), "code": .int32(code), "codeName": .text(Text(name)),
    ]
    if !labels.isEmpty { reply["errorLabels"] = .array(labels.map { .text(Text($0)) }) }
    return reply
  }

  /// As an entry of `writeErrors`.
  func writeError(_ index: Int) -> Value {
    .document(["index": .int32(Int32(index)), "code": .int32(code), "errmsg": .text(Text(text))])
  }
}
