struct LoadSettings {
  var port: UInt16
  /// Requests a second.
  var rate: Int
  var seconds: Int
  var connections = 64
  var writesIn100 = 0
  /// How many records are written and read.
  var records = 1000

  init?(_ arguments: [String]) {
    let numbers = arguments.map { Int($0) ?? -1 }
    guard (3...6).contains(numbers.count), !numbers.contains(where: { $0 < 0 }),
      let port = UInt16(exactly: numbers[0]), numbers[1] > 0, numbers[2] > 0
    else { return nil }
    self.port = port
    rate = numbers[1]
    seconds = numbers[2]
    if numbers.count > 3 { connections = max(1, numbers[3]) }
    if numbers.count > 4 { writesIn100 = min(100, numbers[4]) }
    if numbers.count > 5 { records = max(1, numbers[5]) }
  }

  /// 200 bytes of JSON.
  private static let record = "{\"n\":1,\"text\":\"\(String(repeating: "x", count: 183))\"}"

  func request(_ number: Int) -> [UInt8] {
    let uri = "open/load/record-\(number % records)"
    // Spread over the hundred, so that writes do not come in bursts.
    if number * 37 % 100 < writesIn100 {
      let body = "{\"tx\":[\"mutable://\(uri)\",\(Self.record)]}"
      return Array(
        "POST /api/v1/receive HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
          .utf8)
    }
    return Array("GET /api/v1/read/mutable/\(uri) HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".utf8)
  }
}
