import Foundation
import NodeTesting
import Testing

/// WebSocket on a whole node.
@Suite struct NodeWebSocketTests {
  private static let plugins = BuiltProducts.bundled + ["transport-websocket"]

  private static func node(_ webSocketPort: Int, _ isolation: String) throws -> NodeProcess {
    try NodeProcess(
      plugins: plugins,
      configuration: """
        slots:
          memory:
            kind: backend
            url: "memory://"
          http:
            loops: 1
            isolation: \(isolation)
          live:
            kind: transport
            plugin: org.backplane.websocket
            port: \(webSocketPort)
            isolation: \(isolation)
        """)
  }

  private static func put(_ path: String, _ data: String, id: Int = 1) -> String {
    #"{"id":\#(id),"type":"receive","payload":{"tx":["mutable://open/\#(path)",\#(data)]}}"#
  }

  @Test(arguments: ["in", "process"]) func bothPortsCarryEveryType(_ isolation: String) throws {
    let port = FreePort.find()
    let node = try Self.node(port, isolation)
    for (port, path) in [(node.port, "/api/v1/ws"), (port, "/")] {
      let client = try WebSocketClient(port: port, path: path)
      func ask(_ type: String, _ payload: String) throws -> JSONValue? {
        let answer = JSONValue(try client.ask(#"{"id":1,"type":"\#(type)","payload":\#(payload)}"#))
        #expect(answer?["success"] == .bool(true), "\(type)")
        return answer?["data"]
      }
      let name = "mutable://open/on\(path == "/" ? "own" : "shared")"
      #expect(try ask("receive", #"{"tx":["\#(name)/a",{"n": 1.0}]}"#)?["accepted"] == .bool(true))
      #expect(try ask("receive", #"{"tx":["nonsense",1]}"#)?["error"]?.string == "Invalid URI format")
      let read = try client.ask(#"{"id":2,"type":"read","payload":{"uri":"\#(name)/a"}}"#)
      #expect(read.hasSuffix(#","data":{"n": 1.0}}}}"#), "\(read)")
      #expect(try ask("read", #"{"uri":"\#(name)/b"}"#)?["error"]?.string == "Not found: \(name)/b")
      #expect(try ask("readMulti", #"{"uris":["\#(name)/a"]}"#)?["success"] == .bool(true))
      #expect(try ask("list", #"{"uri":"\#(name)"}"#)?["pagination"]?["total"]?.double == 1)
      #expect(try ask("delete", #"{"uri":"\#(name)/a"}"#)?["success"] == .bool(true))
      #expect(try ask("delete", #"{"uri":"\#(name)/a"}"#)?["success"] == .bool(false))
      #expect(try ask("health", "{}")?["status"]?.string == "healthy")
      #expect(try ask("getSchema", "{}")?.items != nil)
      let marker = #"{"__b3nd_binary__":true,"data":"AAEC"}"#
      #expect(try ask("receive", #"{"tx":["\#(name)/x.png",\#(marker)]}"#)?["accepted"] == .bool(true))
      #expect(try ask("read", #"{"uri":"\#(name)/x.png"}"#)?["record"]?["data"] == JSONValue(marker))
    }
    // What one wrote the other's clients read, over HTTP as bytes.
    let answer = try HTTPConnection(port: node.port).get("/api/v1/read/mutable/open/onown/x.png")
    #expect(answer.body == [0, 1, 2])
    #expect(answer.headers["content-type"] == "image/png")
  }

  /// A subscriber that is told to go, connects again and says where it was misses nothing, and hears nothing twice.
  @Test(arguments: ["in", "process"]) func observersGoOnAcrossAReloadOfTheTransport(_ isolation: String) throws {
    let node = try NodeProcess(
      plugins: Self.plugins,
      configuration: """
        reload: {watch: false, settle_ms: 0}
        slots: {memory: {kind: backend, url: "memory://"}, http: {kind: transport, isolation: \(isolation)}}
        """)
    var observer = try WebSocketClient(port: node.port)
    let begin = try #require(
      JSONValue(try observer.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open/seen"}}"#)))
    var place = try #require(begin["data"]?["place"]?.string)
    let writer = try HTTPConnection(port: node.port)
    for index in 0..<5 {
      #expect(try writer.post("/api/v1/receive", #"{"tx":["mutable://open/seen/\#(index)",\#(index)]}"#).status == 200)
    }
    var seen: [Int] = []
    func take(until count: Int) throws {
      while seen.count < count {
        let event = try #require(JSONValue(try observer.readText()))
        place = try #require(event["place"]?.string)
        if let value = event["data"]?.double { seen.append(Int(value)) }
        #expect(event["gap"] == nil)
      }
    }
    try take(until: 3)
    try PluginFile.drop(
      BuiltProducts.plugin("transport-http"), into: node.pluginsDirectory, as: "libbackplane-transport-http.so",
      stamp: "another build")
    #expect(try node.reloadDirectly(now: ["*"]).outcome == "applied", "\(node.log)")
    // What was on its way may still come, then the goodbye.
    do { try take(until: .max) } catch let closed as WebSocketClient.Closed { #expect(closed.code == 1001) }
    for index in 5..<9 {
      #expect(try node.put("mutable://open/seen/\(index)", "\(index)").status == 200)
    }
    observer = try WebSocketClient(port: node.port)
    let again = try #require(
      JSONValue(
        try observer.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open/seen","after":"\#(place)"}}"#)))
    #expect(again["data"]?["gap"] == nil, "\(again)")
    try take(until: 9)
    #expect(seen == Array(0..<9))
  }

  private static func observe(_ uri: String, after place: String? = nil) -> String {
    let after = place.map { #","after":"\#($0)""# } ?? ""
    return #"{"id":1,"type":"observe","payload":{"uri":"\#(uri)"\#(after)}}"#
  }

  /// Whoever observes what is seldom written comes back to a busy node without being told of a gap that was none.
  @Test func aQuietObserverKeepsItsPlace() throws {
    let node = try NodeProcess(
      plugins: Self.plugins,
      configuration: """
        feed: {records_max: 40}
        slots: {memory: {kind: backend, url: "memory://"}, http: {kind: transport}}
        """)
    var observer = try WebSocketClient(port: node.port)
    let begin = try #require(JSONValue(try observer.ask(Self.observe("mutable://open/quiet"))))
    let first = try #require(begin["data"]?["place"]?.string)
    func position(_ place: String) -> Int { Int(place.split(separator: "-").last ?? "", radix: 16) ?? 0 }
    for index in 0..<200 { #expect(try node.put("mutable://open/busy/\(index)", "1").status == 200) }
    var place = first
    while position(place) < position(first) + 190 {
      let event = try #require(JSONValue(try observer.readText()))
      #expect(event["uri"] == nil && event["gap"] == nil && event["subscription"]?.double == 1, "\(event)")
      place = try #require(event["place"]?.string)
    }
    try observer.sendClose(1000)
    _ = try observer.readClose()
    observer = try WebSocketClient(port: node.port)
    let again = try #require(JSONValue(try observer.ask(Self.observe("mutable://open/quiet", after: place))))
    #expect(again["success"] == .bool(true) && again["data"]?["gap"] == nil, "\(again)")
    let late = try #require(
      JSONValue(try WebSocketClient(port: node.port).ask(Self.observe("mutable://open/quiet", after: first))))
    #expect(late["data"]?["gap"] == .bool(true), "\(late)")
    #expect(try node.put("mutable://open/quiet/a", "2").status == 200)
    let event = try #require(JSONValue(try observer.readText()))
    #expect(event["uri"]?.string == "mutable://open/quiet/a" && event["gap"] == nil, "\(event)")
    #expect(node.stop() == 0)
  }

  /// When the node goes on in another process an observer is told to go, and in the new process that its place is
  /// another's: from there on it misses nothing.
  @Test(arguments: ["in", "process"]) func observersComeBackAfterAnUpgrade(_ isolation: String) throws {
    let node = try NodeProcess(
      plugins: Self.plugins,
      configuration: """
        reload: {watch: false, probation_ms: 0, drain_soft_ms: 3000}
        slots: {memory: {kind: backend, url: "memory://"}, http: {kind: transport, isolation: \(isolation)}}
        """)
    var observer = try WebSocketClient(port: node.port)
    _ = try observer.ask(Self.observe("mutable://open/seen"))
    #expect(try node.put("mutable://open/seen/a", "1").status == 200)
    let event = try #require(JSONValue(try observer.readText()))
    let place = try #require(event["place"]?.string)
    #expect(event["uri"]?.string == "mutable://open/seen/a")
    let receipt = try node.upgrade()
    #expect(receipt.outcome == "applied", "\(receipt) \(node.log)")
    let closed = #expect(throws: WebSocketClient.Closed.self) {
      // It may be told first that the subscription is over.
      while true {
        let last = try observer.readText()
        #expect(last.contains(#""ended":true"#), "\(last)")
      }
    }
    #expect(closed?.code == 1001, "\(node.log)")
    observer = try WebSocketClient(port: node.port)
    let again = try #require(JSONValue(try observer.ask(Self.observe("mutable://open/seen", after: place))))
    #expect(again["data"]?["gap"] == .bool(true), "\(again)")
    #expect(again["data"]?["place"]?.string?.split(separator: "-").first != place.split(separator: "-").first)
    // What the old process still took is a gap here; then everything is heard.
    var number = 0
    var isHeard = false
    while !isHeard, number < 100 {
      number += 1
      #expect(try node.put("mutable://open/seen/b", "\(number)").status == 200)
      let next = try #require(JSONValue(try observer.readText()))
      isHeard = next["uri"] != nil
      #expect(next["gap"] == (isHeard ? nil : .bool(true)), "\(next)")
      if isHeard { #expect(next["data"]?.double == Double(number), "\(next)") }
    }
    #expect(isHeard)
    #expect(node.stop() == 0, "\(node.log)")
  }

  /// Every request either was answered, or its connection was closed with 1001 before it was accepted: then it had no
  /// effect, and the client may send it again.
  @Test func reloadsUnderLoad() throws {
    let node = try NodeProcess(
      plugins: Self.plugins, environment: ["BACKPLANE_RELOAD_WATCH": "false", "BACKPLANE_RELOAD_SETTLE_MS": "0"])
    let stop = Shared(false)
    let sent = Shared(0)
    let goodbyes = Shared(0)
    let troubles = Shared<[String]>([])
    let unanswered = Shared<[String]>([])
    let answered = Shared<[String]>([])
    let threads = TestThreads()
    for thread in 0..<4 {
      threads.start {
        var next = 0
        while !stop.with({ $0 }) {
          do {
            let client = try WebSocketClient(port: node.port)
            while !stop.with({ $0 }) {
              let name = "\(thread)-\(next)"
              next += 1
              sent.with { $0 += 1 }
              do {
                let answer = try client.ask(Self.put(name, "\(next)", id: next))
                if answer == #"{"id":\#(next),"success":true,"data":{"accepted":true}}"# {
                  answered.with { $0.append(name) }
                } else {
                  troubles.with { $0.append(answer) }
                }
              } catch let closed as WebSocketClient.Closed {
                if closed.code != 1001 { troubles.with { $0.append("\(closed)") } }
                unanswered.with { $0.append(name) }
                goodbyes.with { $0 += 1 }
                break
              }
            }
          } catch { troubles.with { $0.append("\(error)") } }
        }
      }
    }
    for round in 0..<5 {
      let before = sent.with { $0 }
      #expect(Polling.until(seconds: 60) { sent.with { $0 } > before + 50 })
      try PluginFile.drop(
        BuiltProducts.plugin("transport-http"), into: node.pluginsDirectory, as: "libbackplane-transport-http.so",
        stamp: "build \(round)")
      #expect(try node.reloadDirectly(now: ["*"]).outcome == "applied")
      #expect(Polling.until(seconds: 60) { goodbyes.with { $0 } >= 4 * (round + 1) }, "round \(round)")
    }
    stop.with { $0 = true }
    #expect(threads.join())
    #expect(troubles.with { $0 } == [])
    #expect(goodbyes.with { $0 } >= 20)
    let reader = try WebSocketClient(port: node.port)
    func isThere(_ name: String) throws -> Bool {
      try reader.ask(#"{"id":1,"type":"read","payload":{"uri":"mutable://open/\#(name)"}}"#).contains("record")
    }
    for name in answered.with({ $0 }) {
      #expect(try isThere(name), "\(name) was accepted and is not there")
    }
    for name in unanswered.with({ $0 }) {
      #expect(try !isThere(name), "\(name) was executed after the goodbye")
    }
  }
}
