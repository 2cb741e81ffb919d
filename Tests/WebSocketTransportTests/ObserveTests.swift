import Foundation
import NodeTesting
import PluginAPI
import PluginTestHost
import Testing

extension WebSocketTests {
  @Suite struct ObserveTests {
    @Test(arguments: Carrier.allCases) func events(carrier: Carrier) async throws {
      try await withTransport(carrier) { fixture in
        let client = try fixture.client()
        #expect(
          try client.ask(#"{"id":"s1","type":"observe","payload":{"uri":"mutable://open/a"}}"#)
            == #"{"id":"s1","success":true,"data":{"place":"7-3e8"}}"#)
        fixture.feed.publish("mutable://open/b", Array("0".utf8))
        fixture.feed.publish("mutable://open/a/x", Array(#"{"n": 1.0}"#.utf8), timestampMs: 5)
        #expect(
          try client.readText()
            == #"{"type":"event","subscription":"s1","place":"7-3ea","uri":"mutable://open/a/x","ts":5,"data":{"n": 1.0}}"#
        )
        fixture.feed.publish("mutable://open/a/y", [0, 1, 2], .bytes, timestampMs: 6)
        #expect(
          try client.readText()
            == joined(
              #"{"type":"event","subscription":"s1","place":"7-3eb","uri":"mutable://open/a/y","ts":6,"#,
              #""data":{"__b3nd_binary__":true,"data":"AAEC"}}"#))
        fixture.feed.publishDelete("mutable://open/a/x", timestampMs: 7)
        #expect(
          try client.readText()
            == #"{"type":"event","subscription":"s1","place":"7-3ec","uri":"mutable://open/a/x","ts":7,"deleted":true}"#
        )
        fixture.feed.publish("mutable://open/a/big", nil, timestampMs: 8)
        #expect(
          try client.readText()
            == #"{"type":"event","subscription":"s1","place":"7-3ed","uri":"mutable://open/a/big","ts":8,"omitted":true}"#
        )
        // A second one of the same connection, without data.
        #expect(
          try client.ask(#"{"id":2,"type":"observe","payload":{"uri":"","data":false}}"#)
            == #"{"id":2,"success":true,"data":{"place":"7-3ed"}}"#)
        fixture.feed.publish("mutable://open/b", Array("1".utf8), timestampMs: 9)
        #expect(
          try client.readText()
            == #"{"type":"event","subscription":2,"place":"7-3ee","uri":"mutable://open/b","ts":9}"#)
        #expect(
          try client.ask(#"{"id":3,"type":"unobserve","payload":{"subscription":2}}"#)
            == #"{"id":3,"success":true,"data":{"success":true}}"#)
        waitFor { await fixture.feed.awaitSubscribers(1) }
        #expect(
          try client.ask(#"{"id":3,"type":"unobserve","payload":{"subscription":2}}"#).contains(#""success":false"#))
        fixture.feed.publish("mutable://open/a", Array("2".utf8), timestampMs: 10)
        #expect(try client.readText().hasPrefix(#"{"type":"event","subscription":"s1","place":"7-3ef""#))
        try client.sendClose(1000)
        _ = try client.readClose()
        waitFor { await fixture.feed.awaitSubscribers(0) }
        #expect(fixture.waits("websocket_events_total", is: 6))
        #expect(fixture.waits("websocket_subscriptions", is: 0))
      }
    }

    @Test func resuming() async throws {
      try await withTransport { fixture in
        let place = try Self.firstPlace(fixture)
        waitFor { await fixture.feed.awaitSubscribers(0) }
        for index in 2...40 { fixture.feed.publish("mutable://open/\(index)", Array("\(index)".utf8)) }
        let next = try fixture.client()
        #expect(
          try next.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open","after":"\#(place)"}}"#)
            == #"{"id":1,"success":true,"data":{"place":"\#(place)"}}"#)
        // More than the credits of a subscription: they are granted as frames are written.
        for index in 2...40 { #expect(JSONValue(try next.readText())?["data"]?.double == Double(index)) }
        // What is no longer there is a gap, and so is a place of another life of the node.
        fixture.feed.publish("mutable://elsewhere/a", Array("0".utf8))
        fixture.feed.lose()
        #expect(
          try next.readText() == #"{"type":"event","subscription":1,"place":"7-411","gap":true}"#)
        for after in [place, "8-1"] {
          let late = try fixture.client()
          #expect(
            try late.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open","after":"\#(after)"}}"#)
              == #"{"id":1,"success":true,"data":{"place":"7-411","gap":true}}"#)
        }
        #expect(fixture.waits("websocket_gaps_total", is: 3))
      }
    }

    /// Of a client that observes, sees one event, and is gone without a word.
    private static func firstPlace(_ fixture: Fixture) throws -> String {
      let client = try fixture.client()
      _ = try client.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open"}}"#)
      fixture.feed.publish("mutable://open/1", Array("1".utf8))
      let event = JSONValue(try client.readText())
      return try #require(event?["place"]?.string)
    }

    @Test func refusals() async throws {
      try await withTransport(.shared, #"{"websocket":{"subscriptions_max":2}}"#) { fixture in
        let client = try fixture.client()
        for (payload, part) in [
          ("{}", "expected a payload with a uri"), (#"{"uri":7}"#, "expected a payload with a uri"),
          (#"{"uri":"nonsense"}"#, "is not a URI"), (#"{"uri":"","after":"7"}"#, "after is no place"),
          (#"{"uri":"","after":7}"#, "after is no place"), (#"{"uri":"","after":"0-1"}"#, "after is no place"),
          (#"{"uri":"","after":"+7-1"}"#, "after is no place"),
        ] {
          let answer = try client.ask(#"{"id":9,"type":"observe","payload":\#(payload)}"#)
          #expect(answer.hasPrefix(#"{"id":9,"success":false,"error":"#) && answer.contains(part), "\(answer)")
        }
        _ = try client.ask(#"{"id":1,"type":"observe","payload":{"uri":"","after":null}}"#)
        #expect(try client.ask(#"{"id":1,"type":"observe","payload":{"uri":""}}"#).contains("has this id already"))
        _ = try client.ask(#"{"id":2,"type":"observe","payload":{"uri":""}}"#)
        #expect(try client.ask(#"{"id":3,"type":"observe","payload":{"uri":""}}"#).contains("subscriptions_max"))
        fixture.feed.refuse(Failure(code: BP_RESOURCE_EXHAUSTED, "feed.subscriptions_max is reached"))
        let other = try fixture.client()
        #expect(
          try other.ask(#"{"id":1,"type":"observe","payload":{"uri":""}}"#)
            == #"{"id":1,"success":false,"error":"feed.subscriptions_max is reached"}"#)
        #expect(fixture.waits("websocket_subscriptions", is: 2))
      }
    }

    /// Its events stay in the node's ring: credits are granted only while its socket takes what is written.
    @Test func aSubscriberThatDoesNotRead() async throws {
      let keys = #"{"websocket":{"subscription_events_max":4,"write_timeout_ms":60000}}"#
      try await withTransport(.shared, keys) { fixture in
        let slow = try fixture.client()
        _ = try slow.ask(#"{"id":1,"type":"observe","payload":{"uri":"mutable://open"}}"#)
        let data = Array(("\"" + String(repeating: "x", count: 100_000) + "\"").utf8)
        for index in 0..<400 { fixture.feed.publish("mutable://open/\(index)", data) }
        // It takes what the buffers of the sockets hold (some megabytes), and then nothing.
        var last = -1
        #expect(
          Polling.until(seconds: 60, everyMs: 300) {
            let now = fixture.feed.subscribers.first?.itemsCount ?? 0
            defer { last = now }
            return now == last && now > 1 && fixture.feed.subscribers.first?.credits == 0
          })
        #expect(last < 300, "\(last)")
        // Others are served meanwhile, and when it reads it gets all of it, in order.
        #expect(try fixture.client().ask(#"{"id":1,"type":"getSchema"}"#).contains("success"))
        for index in 0..<400 {
          let event = try slow.readText()
          #expect(event.contains(#""uri":"mutable://open/\#(index)","#), "\(event.prefix(100))")
        }
      }
    }

    @Test func manySubscriptions() async throws {
      try await withTransport(.shared, #"{"loops":2}"#) { fixture in
        let clients = try (0..<200).map { _ in try fixture.client() }
        for client in clients {
          for id in 0..<3 {
            _ = try client.ask(#"{"id":\#(id),"type":"observe","payload":{"uri":"mutable://open"}}"#)
          }
        }
        for round in 0..<10 { fixture.feed.publish("mutable://open/r", Array("\(round)".utf8)) }
        for client in clients {
          var seen = [0, 0, 0]
          for _ in 0..<30 {
            let event = try #require(JSONValue(try client.readText()))
            let id = Int(event["subscription"]?.double ?? 9)
            #expect(event["data"]?.double == Double(seen[id]))
            seen[id] += 1
          }
        }
        #expect(fixture.waits("websocket_subscriptions", is: 600))
        #expect(fixture.waits("websocket_events_total", is: 6000))
      }
    }
  }
}
