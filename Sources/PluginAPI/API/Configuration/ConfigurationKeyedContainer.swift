struct ConfigurationKeyedContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let decoder: ConfigurationValueDecoder
  let cursor: ConfigurationCursor
  let object: ConfigurationObject
  let record: ConfigurationKeyRecord

  var codingPath: [any CodingKey] { cursor.codingPath }
  private var run: ConfigurationRun { decoder.run }

  /// The keys that the type can name. Whoever lists them has seen them, so none of these is unknown.
  var allKeys: [Key] {
    run.willRead()
    return object.members.compactMap { member in
      guard let key = Key(stringValue: member.key) else { return nil }
      record.ask(member.key)
      return key
    }
  }

  func contains(_ key: Key) -> Bool { find(key) != nil }

  func decodeNil(forKey key: Key) throws -> Bool {
    if case .null = try member(key).node.value { return true }
    return false
  }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T { try run.decode(type, at: member(key)) }
  func decode(_: Bool.Type, forKey key: Key) throws -> Bool { try run.boolean(at: member(key)) }
  func decode(_: String.Type, forKey key: Key) throws -> String { try run.text(at: member(key)) }
  func decode(_: Double.Type, forKey key: Key) throws -> Double { try run.real(Double.self, at: member(key)) }
  func decode(_: Float.Type, forKey key: Key) throws -> Float { try run.real(Float.self, at: member(key)) }
  func decode(_: Int.Type, forKey key: Key) throws -> Int { try run.integer(Int.self, at: member(key)) }
  func decode(_: Int8.Type, forKey key: Key) throws -> Int8 { try run.integer(Int8.self, at: member(key)) }
  func decode(_: Int16.Type, forKey key: Key) throws -> Int16 { try run.integer(Int16.self, at: member(key)) }
  func decode(_: Int32.Type, forKey key: Key) throws -> Int32 { try run.integer(Int32.self, at: member(key)) }
  func decode(_: Int64.Type, forKey key: Key) throws -> Int64 { try run.integer(Int64.self, at: member(key)) }
  func decode(_: Int128.Type, forKey key: Key) throws -> Int128 { try run.integer(Int128.self, at: member(key)) }
  func decode(_: UInt.Type, forKey key: Key) throws -> UInt { try run.integer(UInt.self, at: member(key)) }
  func decode(_: UInt8.Type, forKey key: Key) throws -> UInt8 { try run.integer(UInt8.self, at: member(key)) }
  func decode(_: UInt16.Type, forKey key: Key) throws -> UInt16 { try run.integer(UInt16.self, at: member(key)) }
  func decode(_: UInt32.Type, forKey key: Key) throws -> UInt32 { try run.integer(UInt32.self, at: member(key)) }
  func decode(_: UInt64.Type, forKey key: Key) throws -> UInt64 { try run.integer(UInt64.self, at: member(key)) }
  func decode(_: UInt128.Type, forKey key: Key) throws -> UInt128 { try run.integer(UInt128.self, at: member(key)) }

  func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<NestedKey> {
    try decoder.keyed(by: type, at: member(key))
  }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try decoder.unkeyed(at: member(key))
  }

  func superDecoder() -> any Decoder { superDecoder(named: ConfigurationIndexKey(stringValue: "super")) }

  func superDecoder(forKey key: Key) -> any Decoder { superDecoder(named: key) }

  /// A missing member is null to a superclass, as in Foundation's decoders: it may have nothing to decode.
  private func superDecoder(named key: any CodingKey) -> any Decoder {
    decoder.superDecoder(at: cursor.member(find(key) ?? ConfigurationNode(.null), key: key))
  }

  private func find(_ key: any CodingKey) -> ConfigurationNode? {
    run.willRead()
    record.ask(key.stringValue)
    return object[key.stringValue]
  }

  private func member(_ key: Key) throws -> ConfigurationCursor {
    if let node = find(key) { return cursor.member(node, key: key) }
    throw DecodingError.keyNotFound(key, ConfigurationRun.context(codingPath, missing(key.stringValue)))
  }

  /// The type has not asked for all its keys yet, so a similar key is only a hint.
  private func missing(_ key: String) -> String {
    let unasked = object.members.map(\.key).filter { !record.hasAsked($0) }
    let named = "the required key \(ConfigurationRedaction.quotedKey(key)) is missing"
    guard let similar = ConfigurationSpelling.nearest(to: key, among: unasked) else { return "\(named); add it." }
    return "\(named); is \(ConfigurationRedaction.quotedKey(similar)) a misspelling of it?"
  }
}
