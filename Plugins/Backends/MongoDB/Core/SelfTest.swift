import BackendSupport
import CMongoC
import PluginAPI

/// Documents there and back, without a server: that the image, libmongoc and libbson work together.
enum SelfTest {
  static func run() throws {
    Library.begin()
    let text = Array(#"{"b":1.50,"a":["é\u0000",null,true,{"":-0}],"b":2}"#.utf8)
    try roundTrip(.put("mutable://self-test/a", text), "JSON")
    try roundTrip(.put("mutable://self-test/b", Array(#"{"$set":{"a\u0000":1}}"#.utf8)), "JSON that BSON cannot say")
    try roundTrip(.put("mutable://self-test/c", [0, 1, 0xff, 0], .bytes), "bytes")
  }

  private static func roundTrip(_ op: Op, _ what: String) throws {
    let unit = LocalUnit([op], timestampMs: 1_700_000_000_000, version: 7)
    let encoder = RecordEncoder(
      collection: "self_test", nowMs: wallMs(), timestampMs: unit.timestampMs, version: unit.version)
    let document = BSONBuilder()
    document.append("uri", text: op.uri)
    document.append(fieldsOf: try encoder.fields(of: unit[0]))
    var offset = 0
    guard document.withDocument({ bson_validate($0, BSON_VALIDATE_NONE, &offset) }) else {
      throw Failure.internal("the self-test failed: the document of \(what) is no BSON at byte \(offset)")
    }
    let isSame = document.withDocument { document in
      guard let found = RecordDecoder.read(document), found.version == 7, found.timestampMs == unit.timestampMs else {
        return false
      }
      return RecordDecoder.withData(of: found) {
        $0.rawValue == unit[0].content && $1.elementsEqual(unit[0].data.bytes)
      }
    }
    guard isSame else { throw Failure.internal("the self-test failed: \(what) was not read as it was written") }
  }
}
