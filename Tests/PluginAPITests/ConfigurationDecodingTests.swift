import PluginAPI
import Testing

@Suite struct ConfigurationDecodingTests {
  enum Level: String, Decodable, CaseIterable { case quiet, loud }
  enum Rank: Int, Decodable { case first = 1 }
  enum Store: Decodable, Equatable { case memory(limit: Int), file(path: String), none }

  struct Pool: Decodable, Equatable {
    var size: UInt8
    var hosts: [String]
  }

  struct Everything: Decodable {
    var text: String
    var flag: Bool
    var double: Double
    var float: Float
    var huge: UInt64
    var least: Int64
    var wide: Int128
    var level: Level
    var rank: Rank
    var pool: Pool
    var pools: [String: Pool]
    var matrix: [[Int]]
    var absent: Int?
    var null: Int?
    var sparse: [Int?]
    var store: Store
  }

  @Test func everyKindOfValue() throws {
    let value = try decode(
      Everything.self,
      #"""
      { "text": "a\u00e9\ud83d\ude00\n", "flag": true, "double": -1.5e3, "float": 0.25,
        "huge": 18446744073709551615, "least": -9223372036854775808,
        "wide": 170141183460469231731687303715884105727, "level": "loud", "rank": 1,
        "pool": {"size": 255, "hosts": ["a", "b"]}, "pools": {"x/y": {"size": 0, "hosts": []}, "1": {"size": 1, "hosts": []}},
        "matrix": [[1, 2], [], [3]], "null": null, "sparse": [1, null, 3], "store": {"memory": {"limit": 7}} }
      """#)
    #expect(value.text == "aé😀\n")
    #expect(value.flag)
    #expect(value.double == -1500)
    #expect(value.float == 0.25)
    #expect(value.huge == .max)
    #expect(value.least == .min)
    #expect(value.wide == .max)
    #expect(value.level == .loud)
    #expect(value.rank == .first)
    #expect(value.pool == Pool(size: 255, hosts: ["a", "b"]))
    #expect(value.pools == ["x/y": Pool(size: 0, hosts: []), "1": Pool(size: 1, hosts: [])])
    #expect(value.matrix == [[1, 2], [], [3]])
    #expect(value.absent == nil)
    #expect(value.null == nil)
    #expect(value.sparse == [1, nil, 3])
    #expect(value.store == .memory(limit: 7))
  }

  @Test func scalarsAtTheTop() throws {
    #expect(try decode(Int8.self, " -128 ") == -128)
    #expect(try decode(Int?.self, "null") == nil)
    #expect(try decode([String: Int].self, "{}") == [:])
  }

  class Base: Decodable {
    var name: String
    private enum Keys: String, CodingKey { case name }
    init(name: String) { self.name = name }
    required init(from decoder: any Decoder) throws {
      name = try decoder.container(keyedBy: Keys.self).decode(String.self, forKey: .name)
    }
  }

  final class Flat: Base {
    var size: Int
    private enum Keys: String, CodingKey { case size }
    required init(from decoder: any Decoder) throws {
      size = try decoder.container(keyedBy: Keys.self).decode(Int.self, forKey: .size)
      try super.init(from: decoder)
    }
  }

  final class Nested: Base {
    var sum: Int
    private enum Keys: String, CodingKey { case inner, numbers, limit }
    required init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: Keys.self)
      let inner = try container.nestedContainer(keyedBy: Keys.self, forKey: .inner)
      var numbers = try inner.nestedUnkeyedContainer(forKey: .numbers)
      sum = try inner.decode(Int.self, forKey: .limit)
      while !numbers.isAtEnd { sum += try numbers.decode(Int.self) }
      try super.init(from: container.superDecoder())
    }
  }

  @Test func superclassesAndNestedContainers() throws {
    let flat = try decode(Flat.self, #"{"name": "n", "size": 2}"#)
    #expect(flat.name == "n" && flat.size == 2)
    let nested = try decode(Nested.self, #"{"super": {"name": "n"}, "inner": {"limit": 10, "numbers": [1, 2]}}"#)
    #expect(nested.name == "n" && nested.sum == 13)
    #expect(
      lines(Nested.self, #"{"super": {"name": "n", "a": 1}, "inner": {"limit": 10, "numbers": [1], "b": 1}}"#) == [
        #"/super/a: unknown key "a"; the keys known here are "name"."#,
        #"/inner/b: unknown key "b"; the keys known here are "numbers", "limit"."#,
      ])
    #expect(
      lines(Nested.self, #"{"inner": {"limit": 10, "numbers": [1]}}"#) == ["/super: expected an object, found null."])
  }

  /// The shape is tried as an object first: what the failed attempt asked for is not known to the one that succeeded.
  struct Either: Decodable {
    struct Left: Decodable { var left: Int, common: Int }
    struct Right: Decodable { var right: Int }
    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if (try? container.decode(Left.self)) == nil { _ = try container.decode(Right.self) }
    }
  }

  @Test func alternativesDoNotLendEachOtherKeys() {
    #expect(lines(Either.self, #"{"right": 1}"#) == [])
    #expect(
      lines(Either.self, #"{"right": 1, "left": 2}"#) == [
        #"/left: unknown key "left"; the keys known here are "right"."#
      ])
  }
}
