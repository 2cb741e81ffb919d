import ManagedNode
import Testing

@testable import ManagedService

/// A configuration in the kernel's words.
@Suite struct ProposalTests {
  private func proposal(_ backends: String, _ more: String = "", port: String = "9942") throws -> String {
    let document =
      #"{"configVersion":1,"nodeId":"n","name":"a \"b\" ${c}","server":{"port":\#(port),"corsOrigin":"https://a"},"#
      + #""backends":\#(backends),"monitoring":{"heartbeatIntervalMs":1,"configPollIntervalMs":1,"metricsEnabled":true}"#
      + (more.isEmpty ? "}" : ",\(more)}")
    return text(
      try ProposalText.json(try ManagedConfiguration(Array(document.utf8)), transport: "web", schema: nil))
  }

  private func backends(_ json: String) throws -> String {
    let whole = try proposal(json)
    let start = try #require(whole.firstRange(of: #""backends":"#)).upperBound
    let end = try #require(whole.firstRange(of: #","slots""#)).lowerBound
    return String(whole[start..<end])
  }

  private func refusal(_ json: String) -> String {
    do {
      _ = try proposal(json)
      return "accepted"
    } catch { return "\(error)" }
  }

  @Test func optionsAreKeysOfOurPlugins() throws {
    #expect(
      try backends(
        #"[{"type":"postgresql","url":"postgresql://u:p@h/d","options":{"tablePrefix":"x","poolSize":8,"connectionTimeout":2500}}]"#
      ) == #"[{"url":"postgresql://u:p@h/d","table_prefix":"x","connections_max":8,"connect_timeout_ms":2500}]"#)
    #expect(
      try backends(#"[{"type":"postgresql","url":"postgres://h/d","options":{"poolSize":1,"connectionTimeout":1}}]"#)
        == #"[{"url":"postgres://h/d","connections_max":3,"connect_timeout_ms":100}]"#)
    #expect(
      try backends(
        #"[{"type":"mongodb","url":"mongodb://h/d?collection=a&retryWrites=true","options":{"collectionName":"b c"}}]"#)
        == #"[{"url":"mongodb://h/d?retryWrites=true&collection=b%20c"}]"#)
    #expect(
      try backends(#"[{"type":"memory","url":"memory://anything"},{"type":"http","url":"https://h/below"}]"#)
        == #"[{"url":"memory://"},{"url":"https://h/below"}]"#)
  }

  @Test func peersAreBackendsWithADirection() throws {
    let json = try proposal(
      #"[{"type":"memory","url":"memory://"}]"#,
      #""peers":[{"url":"http://a","direction":"push"},{"url":"http://b","direction":"sideways"},{"url":"http://c","direction":"bidirectional"}]"#
    )
    #expect(
      json == #"{"replaces":["backend"],"node":{"name":"a \"b\" ${c}"},"backends":[{"url":"memory://"},"#
        + #"{"url":"http://a","peer":"push"},{"url":"http://c","peer":"bidirectional"}],"#
        + #""slots":{"web":{"port":9942,"cors_origin":"https://a"}}}"#)
  }

  @Test func aTextMeansItself() throws {
    #expect(
      try backends(#"[{"type":"http","url":"http://h/${env:HOME}"}]"#) == #"[{"url":"http://h/$${env:HOME}"}]"#)
  }

  @Test func wishesThatCannotBeGrantedAreRefused() {
    #expect(
      refusal(#"[{"type":"memory","url":"memory://"},{"type":"postgresql","url":"mysql://h/d"}]"#)
        == "backends[1].url is no address for the type postgresql: it must begin with postgresql:// or postgres://")
    #expect(
      refusal(#"[{"type":"postgresql","url":"postgres://h/d","options":{"ssl":true}}]"#)
        == "backends[0].options.ssl is unknown: the type postgresql has tablePrefix, poolSize, connectionTimeout")
    #expect(
      refusal(#"[{"type":"memory","url":"memory://","options":{"size":1}}]"#)
        == "backends[0].options.size is unknown: the type memory has none")
    #expect(
      refusal(#"[{"type":"postgresql","url":"postgres://h/d","options":{"poolSize":"8"}}]"#)
        == "backends[0].options.poolSize must be a number")
    #expect(
      refusal(#"[{"type":"http","url":"http://h","options":7}]"#) == "backends[0].options must be an object")
    #expect(throws: Trouble("server.port is 1.5, and a node listens on a whole number")) {
      try proposal(#"[{"type":"memory","url":"memory://"}]"#, port: "1.5")
    }
  }
}
