/// Bytes inside JSON, as the b3nd client sends them: `{"__b3nd_binary__":true,"encoding":"base64","data":"…"}`.
public enum BinaryMarker {
  static let flagName: StaticString = "__b3nd_binary__"

  /// The `data` string when `value` is a marker: an object whose flag is `true`, whose `encoding` is `base64` and whose
  /// `data` is a string. Further members are ignored, of duplicates the last counts, nesting is not searched.
  /// - Parameter needsEncoding: false: `encoding` may be absent, as the peer's WebSocket client has it.
  public static func find(in value: JSONSlice, needsEncoding: Bool = true) -> JSONSlice? {
    guard value.kind == .object else { return nil }
    var flag: JSONSlice?
    var encoding: JSONSlice?
    var data: JSONSlice?
    for (key, value) in value.members {
      if key.isText(flagName) {
        flag = value
      } else if key.isText("encoding") {
        encoding = value
      } else if key.isText("data") {
        data = value
      }
    }
    guard flag?.kind == .true, let data, data.kind == .string else { return nil }
    guard encoding.map({ $0.isText("base64") }) ?? !needsEncoding else { return nil }
    return data
  }

  /// Appends the bytes that a marker's `data` string stands for. Never fails: see `Base64.decodeLeniently`.
  public static func decode(_ data: JSONSlice, into output: inout [UInt8]) {
    var scratch: [UInt8] = []
    data.withText(scratch: &scratch) { Base64.decodeLeniently($0, into: &output) }
  }

  /// Appends the marker object for `bytes`.
  /// - Parameter hasEncoding: false: without `encoding`, as the peer's WebSocket client has it.
  public static func append(
    _ bytes: UnsafeRawBufferPointer, hasEncoding: Bool = true, to output: inout [UInt8]
  ) {
    let head: StaticString =
      hasEncoding
      ? "{\"__b3nd_binary__\":true,\"encoding\":\"base64\",\"data\":\"" : "{\"__b3nd_binary__\":true,\"data\":\""
    output.reserveCapacity(output.count + head.utf8CodeUnitCount + Base64.encodedCount(bytes.count) + 2)
    output.append(contentsOf: UnsafeBufferPointer(start: head.utf8Start, count: head.utf8CodeUnitCount))
    Base64.encode(bytes, into: &output)
    output.append(0x22)
    output.append(0x7D)
  }
}
