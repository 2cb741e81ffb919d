import PluginAPI
import PluginTestHost
import Testing

@Suite struct DeleteTests {
  private func flags(_ configuration: String) throws -> UInt32 {
    let host = try TestHost(entry: entry.pointer, configuration: configuration)
    defer { host.destroy() }
    return try #require(host.extensionTable("backplane.schema/1", as: bp_schema.self)).pointee.flags
  }

  @Test func deletesAreJudgedOnlyWhenTheConfigurationSaysSo() throws {
    #expect(try flags("{}") == 0)
    #expect(try flags(#"{"delete":"open"}"#) == 0)
    #expect(try flags(#"{"delete":"owner"}"#) == BP_SCHEMA_JUDGES_DELETES)
    #expect(try flags(#"{"delete":"none"}"#) == BP_SCHEMA_JUDGES_DELETES)
  }

  private func delete(_ host: TestHost, _ uri: String) async throws -> Judgement {
    try await host.judge(received: uri, [], .bytes, isDelete: true)
  }

  @Test func noneMeansNobody() async throws {
    try await withB3nd(#"{"delete":"none"}"#) { (host: TestHost, _: InMemoryNode) async throws in
      for uri in ["mutable://open/a", "mutable://accounts/x/y", "hash://sha256/ab", "mutable://unknown/a"] {
        #expect(try await delete(host, uri) == .rejected("Records are not deleted on this node."))
      }
      // Nor by a signed message: that is stored.
      let owner = try Signer(1)
      let uri = "mutable://accounts/\(owner.key)/x"
      let message = try owner.message(#"{"delete":"\#(uri)"}"#)
      #expect(try await host.judge(received: uri, json: message) == stored(uri, message))
    }
  }

  @Test func ownerMeansWhoeverMayWriteOver() async throws {
    let key = try Signer(1).key
    try await withB3nd(#"{"delete":"owner"}"#) { (host: TestHost, _: InMemoryNode) async throws in
      for uri in ["mutable://open/a", "immutable://inbox/a", "link://open/a"] {
        #expect(try await delete(host, uri) == .accepted([.delete(uri)]))
      }
      for uri in ["immutable://open/a", "hash://sha256/ab", "immutable://accounts/\(key)/x"] {
        #expect(try await delete(host, uri) == .rejected("Records of this program are written once and not deleted."))
      }
      for uri in ["mutable://accounts/\(key)/x", "link://accounts/\(key)"] {
        #expect(
          try await delete(host, uri)
            == .rejected(
              #"Only its owner deletes this record: by a signed message to its URI with the payload {"delete":"<URI>"}."#
            ))
      }
      #expect(
        try await delete(host, "mutable://unknown/a")
          == .rejected("Records of a program that the node does not know are not deleted."))
    }
  }

  @Test func theOwnerDeletesByASignedMessage() async throws {
    let owner = try Signer(1)
    try await withB3nd(#"{"delete":"owner"}"#) { (host: TestHost, node: InMemoryNode) async throws in
      for program in ["mutable://accounts", "link://accounts"] {
        let uri = "\(program)/\(owner.key)/x"
        let message = try owner.message(#"{"delete":"\#(uri)"}"#)
        #expect(try await host.judge(received: uri, json: message) == .accepted([.delete(uri)]))
        #expect(try await host.judge(received: "\(uri)/?q", json: message) == .accepted([.delete(uri)]))
        let theirs = try Signer(2).message(#"{"delete":"\#(uri)"}"#)
        #expect(try await host.judge(received: uri, json: theirs) == .rejected("Signature verification failed"))
      }
      // What was signed for one record deletes no other, and is stored there like any other payload.
      let uri = "mutable://accounts/\(owner.key)/x"
      let other = "mutable://accounts/\(owner.key)/y"
      for payload in [
        #"{"delete":"\#(other)"}"#, #"{"delete":"\#(uri)","more":1}"#, #"{"delete":true}"#, "null", #""delete""#,
        #"["delete","\#(uri)"]"#,
      ] {
        let message = try owner.message(payload)
        #expect(try await host.judge(received: uri, json: message) == stored(uri, message), "\(payload)")
      }
      // A record that is written once stays.
      let once = "immutable://accounts/\(owner.key)/x"
      let message = try owner.message(#"{"delete":"\#(once)"}"#)
      #expect(
        try await host.judge(received: once, json: message)
          == storedOnce(once, message, otherwise: "immutable object exists"))
      let small = SmallNode(host: host, node: node)
      node.put(uri, Array("1".utf8))
      #expect(
        try await small.receive(
          "mutable://open/e", envelope([#"["\#(uri)",\#(try owner.message(#"{"delete":"\#(uri)"}"#))]"#])) == nil)
      #expect(Set(node.records.keys) == ["mutable://open/e"])
    }
  }

  @Test func withoutTheSettingSuchAMessageIsStored() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let message = try owner.message(#"{"delete":"\#(uri)"}"#)
      #expect(try await host.judge(received: uri, json: message) == stored(uri, message))
    }
  }
}
