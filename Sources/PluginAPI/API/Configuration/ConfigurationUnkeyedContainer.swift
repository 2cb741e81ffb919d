struct ConfigurationUnkeyedContainer: UnkeyedDecodingContainer {
  let decoder: ConfigurationValueDecoder
  let cursor: ConfigurationCursor
  let items: [ConfigurationNode]
  /// Moves on only after an item has been decoded, so that a type may try another shape on the same item.
  private(set) var currentIndex = 0

  init(decoder: ConfigurationValueDecoder, cursor: ConfigurationCursor, items: [ConfigurationNode]) {
    self.decoder = decoder
    self.cursor = cursor
    self.items = items
  }

  var codingPath: [any CodingKey] { cursor.codingPath }
  var count: Int? { items.count }
  var isAtEnd: Bool { currentIndex == items.count }
  private var run: ConfigurationRun { decoder.run }

  mutating func decodeNil() throws -> Bool {
    guard case .null = try item().node.value else { return false }
    currentIndex += 1
    return true
  }

  mutating func decode<T: Decodable>(_ type: T.Type) throws -> T { try next { try $0.run.decode(type, at: $1) } }
  mutating func decode(_: Bool.Type) throws -> Bool { try next { try $0.run.boolean(at: $1) } }
  mutating func decode(_: String.Type) throws -> String { try next { try $0.run.text(at: $1) } }
  mutating func decode(_: Double.Type) throws -> Double { try next { try $0.run.real(Double.self, at: $1) } }
  mutating func decode(_: Float.Type) throws -> Float { try next { try $0.run.real(Float.self, at: $1) } }
  mutating func decode(_: Int.Type) throws -> Int { try next { try $0.run.integer(Int.self, at: $1) } }
  mutating func decode(_: Int8.Type) throws -> Int8 { try next { try $0.run.integer(Int8.self, at: $1) } }
  mutating func decode(_: Int16.Type) throws -> Int16 { try next { try $0.run.integer(Int16.self, at: $1) } }
  mutating func decode(_: Int32.Type) throws -> Int32 { try next { try $0.run.integer(Int32.self, at: $1) } }
  mutating func decode(_: Int64.Type) throws -> Int64 { try next { try $0.run.integer(Int64.self, at: $1) } }
  mutating func decode(_: Int128.Type) throws -> Int128 { try next { try $0.run.integer(Int128.self, at: $1) } }
  mutating func decode(_: UInt.Type) throws -> UInt { try next { try $0.run.integer(UInt.self, at: $1) } }
  mutating func decode(_: UInt8.Type) throws -> UInt8 { try next { try $0.run.integer(UInt8.self, at: $1) } }
  mutating func decode(_: UInt16.Type) throws -> UInt16 { try next { try $0.run.integer(UInt16.self, at: $1) } }
  mutating func decode(_: UInt32.Type) throws -> UInt32 { try next { try $0.run.integer(UInt32.self, at: $1) } }
  mutating func decode(_: UInt64.Type) throws -> UInt64 { try next { try $0.run.integer(UInt64.self, at: $1) } }
  mutating func decode(_: UInt128.Type) throws -> UInt128 { try next { try $0.run.integer(UInt128.self, at: $1) } }

  mutating func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type
  ) throws -> KeyedDecodingContainer<NestedKey> {
    try next { try $0.keyed(by: type, at: $1) }
  }

  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    try next { try $0.unkeyed(at: $1) }
  }

  mutating func superDecoder() throws -> any Decoder { try next { $0.superDecoder(at: $1) } }

  private mutating func next<T>(_ read: (ConfigurationValueDecoder, ConfigurationCursor) throws -> T) throws -> T {
    let value = try read(decoder, item())
    currentIndex += 1
    return value
  }

  private func item() throws -> ConfigurationCursor {
    run.willRead()
    guard !isAtEnd else {
      throw DecodingError.valueNotFound(
        Any.self,
        ConfigurationRun.context(
          codingPath + [ConfigurationIndexKey(currentIndex)],
          "expected another item, but the list has only \(items.count); add what is missing."))
    }
    return cursor.item(items[currentIndex], index: currentIndex)
  }
}
