import Glibc

// Load over WebSocket. Usage: WebSocketBenchmark trips PORT CONNECTIONS SECONDS | observers PORT COUNT RATE SECONDS.
// `observers` says "ready" when all of them observe, and begins when it is sent a line. Prints one JSON line.

func trips(_ port: UInt16, _ connections: Int, _ seconds: Double) {
  let request = Client.frame(#"{"id":1,"type":"read","payload":{"uri":"mutable://open/bench"}}"#)
  let poll = Poll()
  let clients = (0..<connections).map { _ in
    let client = Client(port: port)
    client.becomeNonBlocking()
    poll.add(client)
    return client
  }
  let began = nowNs()
  let end = began + UInt64(seconds * 1e9)
  var delays: [UInt64] = []
  for client in clients {
    client.sentNs = nowNs()
    client.send(bytes: request)
  }
  while nowNs() < end {
    poll.wait(timeoutMs: 100) { index in
      let client = clients[index]
      client.receive()
      client.takeFrames { _ in
        let now = nowNs()
        delays.append(now - client.sentNs)
        client.sentNs = now
        client.send(bytes: request)
      }
    }
  }
  let (p50, p99) = percentiles(delays)
  print(
    "{\"rate\": \(Double(delays.count) / (Double(nowNs() - began) / 1e9)), \"p50_us\": \(p50), \"p99_us\": \(p99)}")
}

/// Every subscriber gets every message; the data of a message is when it was sent.
func observers(_ port: UInt16, _ count: Int, _ rate: Double, _ seconds: Double) {
  let poll = Poll()
  let clients = (0..<count).map { _ in
    let client = Client(port: port)
    let answer = client.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open/observed"}}"#)
    guard answer.contains("\"success\":true") else { fail("not observed: \(answer)") }
    client.becomeNonBlocking()
    poll.add(client)
    return client
  }
  print("ready")
  fflush(nil)
  _ = readLine()
  let writer = Client(port: port)
  writer.becomeNonBlocking()
  poll.add(writer)
  var sent = 0
  var delays: [UInt64] = []
  let marker = Array("\"data\":".utf8)
  func write() {
    writer.send(
      bytes: Client.frame(
        #"{"id":2,"type":"receive","payload":{"tx":["mutable://open/observed/\#(sent % 16)",\#(nowNs())]}}"#))
    sent += 1
  }
  func take(_ index: Int) {
    let client = index == count ? writer : clients[index]
    client.receive()
    client.takeFrames { frame in
      guard index < count, let place = frame.firstRange(of: marker) else { return }
      var number: UInt64 = 0
      for byte in frame[place.upperBound...] {
        guard byte >= 0x30, byte <= 0x39 else { break }
        number = number * 10 + UInt64(byte - 0x30)
      }
      delays.append(nowNs() - number)
    }
  }
  // At a modest rate, then as much as one burst.
  let began = nowNs()
  let messages = Int(rate * seconds)
  while sent < messages || delays.count < count * messages {
    let due = began + UInt64(Double(sent) / rate * 1e9)
    if sent < messages, nowNs() >= due { write() }
    poll.wait(timeoutMs: 1, take)
    if nowNs() > began + UInt64((seconds + 60) * 1e9) { fail("\(count * messages - delays.count) events are missing") }
  }
  let (p50, p99) = percentiles(delays)
  delays.removeAll()
  let burst = 50
  let burstNs = nowNs()
  for _ in 0..<burst { write() }
  while delays.count < count * burst {
    poll.wait(timeoutMs: 100, take)
    if nowNs() > burstNs + 120_000_000_000 { fail("\(count * burst - delays.count) events of the burst are missing") }
  }
  let perSecond = Double(count * burst) / (Double(nowNs() - burstNs) / 1e9)
  print("{\"p50_us\": \(p50), \"p99_us\": \(p99), \"events_per_second\": \(perSecond)}")
}

let arguments = CommandLine.arguments
switch (arguments.count, arguments.count > 1 ? arguments[1] : "") {
case (5, "trips"): trips(UInt16(arguments[2])!, Int(arguments[3])!, Double(arguments[4])!)
case (6, "observers"):
  observers(UInt16(arguments[2])!, Int(arguments[3])!, Double(arguments[4])!, Double(arguments[5])!)
default: fail("usage: WebSocketBenchmark trips PORT CONNECTIONS SECONDS | observers PORT COUNT RATE SECONDS")
}
