struct ConfigurationSingleValueContainer: SingleValueDecodingContainer {
  let run: ConfigurationRun
  let cursor: ConfigurationCursor

  var codingPath: [any CodingKey] { cursor.codingPath }

  func decodeNil() -> Bool {
    run.willRead()
    if case .null = cursor.node.value { return true }
    return false
  }

  func decode<T: Decodable>(_ type: T.Type) throws -> T { try run.decode(type, at: cursor) }
  func decode(_: Bool.Type) throws -> Bool { try run.boolean(at: cursor) }
  func decode(_: String.Type) throws -> String { try run.text(at: cursor) }
  func decode(_: Double.Type) throws -> Double { try run.real(Double.self, at: cursor) }
  func decode(_: Float.Type) throws -> Float { try run.real(Float.self, at: cursor) }
  func decode(_: Int.Type) throws -> Int { try run.integer(Int.self, at: cursor) }
  func decode(_: Int8.Type) throws -> Int8 { try run.integer(Int8.self, at: cursor) }
  func decode(_: Int16.Type) throws -> Int16 { try run.integer(Int16.self, at: cursor) }
  func decode(_: Int32.Type) throws -> Int32 { try run.integer(Int32.self, at: cursor) }
  func decode(_: Int64.Type) throws -> Int64 { try run.integer(Int64.self, at: cursor) }
  func decode(_: Int128.Type) throws -> Int128 { try run.integer(Int128.self, at: cursor) }
  func decode(_: UInt.Type) throws -> UInt { try run.integer(UInt.self, at: cursor) }
  func decode(_: UInt8.Type) throws -> UInt8 { try run.integer(UInt8.self, at: cursor) }
  func decode(_: UInt16.Type) throws -> UInt16 { try run.integer(UInt16.self, at: cursor) }
  func decode(_: UInt32.Type) throws -> UInt32 { try run.integer(UInt32.self, at: cursor) }
  func decode(_: UInt64.Type) throws -> UInt64 { try run.integer(UInt64.self, at: cursor) }
  func decode(_: UInt128.Type) throws -> UInt128 { try run.integer(UInt128.self, at: cursor) }
}
