/// The `Decoder` that one initialiser gets.
final class ConfigurationValueDecoder: Decoder {
  let run: ConfigurationRun
  let cursor: ConfigurationCursor
  private var records: [ConfigurationKeyRecord] = []
  private var superDecoders: [ConfigurationValueDecoder] = []
  private var isOpened = false

  var codingPath: [any CodingKey] { cursor.codingPath }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  init(run: ConfigurationRun, cursor: ConfigurationCursor) {
    self.run = run
    self.cursor = cursor
  }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    isOpened = true
    return try keyed(by: type, at: cursor)
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    isOpened = true
    return try unkeyed(at: cursor)
  }

  func singleValueContainer() -> any SingleValueDecodingContainer {
    isOpened = true
    return ConfigurationSingleValueContainer(run: run, cursor: cursor)
  }

  func keyed<Key: CodingKey>(
    by type: Key.Type, at cursor: ConfigurationCursor
  ) throws -> KeyedDecodingContainer<Key> {
    let object = try run.object(at: cursor)
    return KeyedDecodingContainer(
      ConfigurationKeyedContainer(decoder: self, cursor: cursor, object: object, record: newRecord(on: cursor.node)))
  }

  func unkeyed(at cursor: ConfigurationCursor) throws -> any UnkeyedDecodingContainer {
    ConfigurationUnkeyedContainer(decoder: self, cursor: cursor, items: try run.list(at: cursor))
  }

  func superDecoder(at cursor: ConfigurationCursor) -> any Decoder {
    let decoder = ConfigurationValueDecoder(run: run, cursor: cursor)
    superDecoders.append(decoder)
    return decoder
  }

  /// The initialiser returned: whatever it, its nested containers and its superclass did not ask for is unknown. A type
  /// that opened nothing, as one without properties, knows no keys at all.
  func complete() {
    if !isOpened, case .object = cursor.node.value { _ = newRecord(on: cursor.node) }
    completeRecords()
  }

  private func completeRecords() {
    for record in records { record.isComplete = true }
    for decoder in superDecoders { decoder.completeRecords() }
  }

  private func newRecord(on node: ConfigurationNode) -> ConfigurationKeyRecord {
    let record = ConfigurationKeyRecord()
    records.append(record)
    node.records.append(record)
    return record
  }
}
