import BackendSupport
import BackendTesting
import MongoWireServer
import PluginAPI
import Testing

private let uri = "mutable://open/a"

/// What the peer finds in our documents, and what we find in the peer's.
@Suite struct DocumentTests {
  @Test func aRecordIsTheDocumentThatThePeerWouldHaveMade() throws {
    let bench = try Bench()
    let text = #" {"b": 1.50, "a": [true, null, "é\ud83d\ude00", -7], "b": {"n": 12345678901}, "x.y": 1e2, "": -0} "#
    #expect(bench.backend.put(uri, text, version: 9).code == BP_OK)
    let document = try #require(bench.server.document(uri))
    #expect(
      document.fields.map { "\($0.name)" }
        == ["_id", "uri", "data", "timestamp", "updatedAt", "collection", "backplane", "createdAt"])
    // Of members with one name the last counts, at the place of the first; whole numbers of 32 bits are integers.
    let value: Document = [
      "b": .document(["n": .double(12_345_678_901)]),
      "a": .array([.bool(true), .null, "é😀", .int32(-7)]), "x.y": .int32(100), "": .double(-0.0),
    ]
    #expect(document["data"] == .document(value))
    #expect(document["timestamp"] == .int64(1_700_000_000_009))
    #expect(document["collection"] == "b3nd_data")
    guard case .dateMs(let updated) = document["updatedAt"], case .dateMs(let created) = document["createdAt"] else {
      Issue.record("the dates are \(document)")
      return
    }
    #expect(updated == created && updated > 1_700_000_000_000)
    #expect(bench.backend.text(uri) == text)
  }

  @Test func anOverwriteKeepsWhatItDoesNotOwn() throws {
    let bench = try Bench()
    _ = bench.backend.put(uri, "1")
    try bench.server.set(["createdAt": .dateMs(5), "note": "kept"], uri: uri)
    let id = bench.server.document(uri)?["_id"]
    #expect(bench.backend.put(uri, "2", version: 2).code == BP_OK)
    let document = try #require(bench.server.document(uri))
    #expect(document["_id"] == id && document["createdAt"] == .dateMs(5) && document["note"] == "kept")
    #expect(document["data"] == .int32(2))
  }

  @Test func bytesAreThePeersMarker() throws {
    let bench = try Bench()
    let bytes: [UInt8] = [0, 1, 0xff, 0x80, 0]
    _ = bench.backend.apply([.put(uri, bytes, .bytes)])
    #expect(
      bench.server.document(uri)?["data"]
        == .document(["__b3nd_binary__": .bool(true), "data": "AAH/gAA="]))
    let record = bench.backend.read(uri).record
    #expect(record?.data == bytes && record?.content == .bytes)
    #expect(bench.backend.page("").items.first?.sizeBytes == 5)
  }

  @Test(arguments: [
    #"{"a":{"$ref":1}}"#, #"{"a\u0000b":1}"#, #"[{"$numberInt":"1"}]"#, #"{"$set":{}}"#,
    String(repeating: "[", count: 200) + String(repeating: "]", count: 200),
    String(repeating: #"{"a":"#, count: 81) + "1" + String(repeating: "}", count: 81),
  ])
  func whatBSONCannotSayStandsAsText(_ text: String) throws {
    let bench = try Bench()
    #expect(bench.backend.put(uri, text).code == BP_OK)
    #expect(bench.server.document(uri)?["data"] == .document(["__backplane_json__": .text(Text(text))]))
    #expect(bench.backend.text(uri) == text)
    #expect(bench.backend.page("").items.first?.sizeBytes == UInt64(text.utf8.count))
  }

  private static let texts = [
    #""\u0000""#, #""\ud800""#, "1e400", "-0", "0.1", "123456789012345678901234567890", "[]", "{}", #""""#, "null",
    #"{"__b3nd_binary__":true,"data":"AAAA"}"#, #"{"__backplane_json__":"1"}"#, "\t[ 1 ,\n2 ] ", #"{"é":"é"}"#,
    String(repeating: "[", count: 80) + String(repeating: "]", count: 80),
  ]

  @Test(arguments: Place.all) func everyJSONTextComesBackByteForByte(_ place: Place) throws {
    let (url, server) = place.open()
    let backend = try Bench.start(url)
    for text in Self.texts {
      #expect(backend.put(uri, text).code == BP_OK)
      let record = try #require(backend.read(uri).record)
      #expect(String(decoding: record.data, as: UTF8.self) == text && record.content == .json)
      #expect(backend.page("").items.first?.sizeBytes == UInt64(text.utf8.count))
    }
    withExtendedLifetime(server) {}
  }

  // MARK: The peer's

  private func peers(_ data: Value, timestamp: Value = .double(1_600_000_000_123)) -> Document {
    [
      "uri": .text(Text(uri)), "data": data, "timestamp": timestamp, "updatedAt": .dateMs(1_600_000_000_124),
      "collection": "b3nd_data", "createdAt": .dateMs(1_600_000_000_124),
    ]
  }

  @Test(arguments: [
    (Value.null, "null"), (.int32(-5), "-5"), (.double(0.5), "0.5"), (.double(1e30), "1e+30"), (.double(.nan), "null"),
    (.double(-.infinity), "null"), (.int64(9_007_199_254_740_993), "9007199254740993"), (.bool(true), "true"),
    ("a\"\u{0}\u{2028}é", #""a\"\u0000\#u{2028}é""#), (.array([.int32(1), .array([])]), "[1,[]]"),
    (.document(["b": .int32(1), "a": .document([:])]), #"{"b":1,"a":{}}"#),
    (.document(["$x": .int32(1), "a.b": "c"]), #"{"$x":1,"a.b":"c"}"#),
    (.document(["__b3nd_binary__": .bool(true), "data": .int32(1)]), #"{"__b3nd_binary__":true,"data":1}"#),
    (.document(["__backplane_json__": "1"]), #"{"__backplane_json__":"1"}"#),
    (.dateMs(0), #"{ "$date" : "1970-01-01T00:00:00Z" }"#),
  ])
  func aRecordOfThePeersIsReadByValue(_ data: Value, _ text: String) throws {
    let bench = try Bench { try $0.insert(peers(data)) }
    let record = try #require(bench.backend.read(uri).record)
    #expect(String(decoding: record.data, as: UTF8.self) == text)
    #expect(record.content == .json && record.timestampMs == 1_600_000_000_123 && record.version == 0)
    let item = try #require(bench.backend.page("").items.first)
    #expect(item.sizeBytes == UInt64(text.utf8.count) && item.timestampMs == 1_600_000_000_123 && item.content == 0)
  }

  @Test(arguments: ["AAH/gAA=", "AAH_gAA", " AAH/ gAA=\n"])
  func bytesOfThePeersAreBytes(_ base64: String) throws {
    let marker: Document = ["__b3nd_binary__": .bool(true), "encoding": "base64", "data": .text(Text(base64))]
    let bench = try Bench { try $0.insert(peers(.document(marker))) }
    let record = try #require(bench.backend.read(uri).record)
    #expect(record.data == [0, 1, 0xff, 0x80, 0] && record.content == .bytes)
    #expect(bench.backend.page("").items.first?.content == BP_CONTENT_BYTES)
  }

  /// The peer's update replaces its own fields and leaves ours, which then say what was.
  @Test func whatThePeerWroteOverOursIsThePeers() throws {
    let bench = try Bench()
    _ = bench.backend.put(uri, #"{"ours": 1}"#, version: 4)
    try bench.server.set(
      ["data": .document(["theirs": .int32(2)]), "timestamp": .double(1_800_000_000_000), "updatedAt": .dateMs(7)],
      uri: uri)
    let record = try #require(bench.backend.read(uri).record)
    #expect(String(decoding: record.data, as: UTF8.self) == #"{"theirs":2}"#)
    #expect(record.timestampMs == 1_800_000_000_000 && record.version == 0)
    // A version that is gone is no condition to write on; that of others' records is 0.
    #expect(bench.backend.put(uri, "3", version: 5, if: .version(4)).code == BP_FAILED_PRECONDITION)
    #expect(bench.backend.put(uri, "3", version: 5, if: .version(0)).code == BP_OK)
    #expect(bench.backend.put(uri, "4", version: 6, if: .version(0)).code == BP_FAILED_PRECONDITION)
    #expect(bench.backend.put(uri, "4", version: 6, if: .version(5)).code == BP_OK)
    #expect(bench.backend.text(uri) == "4")
  }

  /// In the same millisecond even: the data is not what was noted.
  @Test func dataThatWasChangedBehindOurBackIsReadByValue() throws {
    let bench = try Bench()
    _ = bench.backend.put(uri, #"{"ours":  1}"#)
    try bench.server.set(["data": .document(["ours": .int32(2)])], uri: uri)
    #expect(bench.backend.text(uri) == #"{"ours":2}"#)
  }

  @Test func documentsThatAreNoRecordsAreLeftAlone() throws {
    let bench = try Bench {
      try $0.insert(["name": "somebody's"])
      try $0.insert(["uri": .int32(5)])
    }
    _ = bench.backend.put(uri, "1")
    #expect(bench.backend.scan("") == [uri])
    #expect(bench.server.documents().count == 3)
  }

  // MARK: Limits

  @Test func aLargeRecordIsKeptOrRefusedWithTheLimit() throws {
    let bench = try Bench()
    // JSON of 10 MiB: once as text; to have it as a value too there is no room.
    let text = "\"" + String(repeating: "x", count: 10 << 20) + "\""
    #expect(bench.backend.put(uri, text).code == BP_OK)
    #expect(bench.backend.text(uri) == text)
    #expect(bench.server.document(uri)?[path: "data.__backplane_json__"] != nil)
    let bytes = [UInt8](repeating: 0xa5, count: 10 << 20)
    #expect(bench.backend.apply([.put(uri, bytes, .bytes)]).code == BP_OK)
    #expect(bench.backend.read(uri).record?.data == bytes)
    for (count, content) in [(64 << 20, Content.json), (64 << 20, .bytes), (13 << 20, .bytes), (16 << 20, .json)] {
      let answer = bench.backend.apply([.put(uri, [UInt8](repeating: 0x31, count: count), content)])
      #expect(answer.code == BP_INVALID_ARGUMENT && answer.message.contains("16777216"), "\(answer.message)")
    }
    #expect(bench.backend.read(uri).record?.data == bytes)
    let long = "mutable://open/" + String(repeating: "u", count: 4_096 - 15)
    #expect(bench.backend.put(long, "1").code == BP_OK)
    #expect(bench.backend.scan("mutable://open/", limit: 1).count == 2)
    let tooLong = bench.backend.put(long + "u", "1")
    #expect(tooLong.code == BP_INVALID_ARGUMENT && tooLong.message.contains("4096"))
  }
}
