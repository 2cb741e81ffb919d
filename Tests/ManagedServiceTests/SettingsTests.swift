import MessageCrypto
import PluginAPI
import Testing

@testable import ManagedService

/// The keys of the slot.
@Suite struct SettingsTests {
  private func problems(_ json: String) -> [String] {
    do {
      _ = try Scene.settings(json)
      return []
    } catch let errors as ConfigurationErrors {
      return errors.problems.map { "\($0.pointer) \($0.message)" }
    } catch { return ["\(error)"] }
  }

  private func pem(_ key: PrivateKey) -> String {
    key.pem.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }.replacing("\n", with: "\\n")
  }

  @Test func whatIsNeededIsMissedInThePeersOrder() throws {
    #expect(
      problems(#"{"config_url":"http://c:1"}"#) == [
        "/operator_key OPERATOR_KEY env var required when CONFIG_URL is set (or operator_key in the slot)",
        "/node_id NODE_ID env var required when CONFIG_URL is set (or node_id in the slot)",
        "/node_private_key_pem NODE_PRIVATE_KEY_PEM env var required when CONFIG_URL is set (or node_private_key_pem in the slot)",
      ])
  }

  @Test func keysMustBelongTogether() throws {
    let cast = try Cast()
    let other = Ed25519.KeyPair()
    let mixed = Scene.keys(cast).replacing(cast.nodeID, with: other.publicKeyHex)
    #expect(problems(Scene.keys(cast)).isEmpty)
    #expect(
      problems(mixed) == [
        "/node_id node_id is not the public key of node_private_key_pem, which is \(cast.nodeID); give that, or the other key"
      ])
    #expect(problems(Scene.keys(cast).replacing(cast.nodeID, with: cast.nodeID.uppercased())).isEmpty)
    #expect(
      problems(Scene.keys(cast).replacing(cast.operatorKey, with: "052fee")) == [
        "/operator_key operator_key must be 64 hexadecimal digits, the 32 bytes of a public key"
      ])
    // As documentation prints it: with \n for line breaks.
    #expect(problems(Scene.keys(cast).replacing("\\n", with: "\\\\n")).isEmpty)
    let own = pem(.ed25519(cast.nodePair))
    #expect(problems(Scene.keys(cast).replacing(own, with: "nonsense"))[0].hasPrefix("/node_private_key_pem "))
    #expect(
      problems(Scene.keys(cast).replacing(own, with: pem(.x25519(X25519.KeyPair()))))[0].contains("key for encryption"))
    #expect(
      problems(Scene.keys(cast, #""node_encryption_private_key_hex":"00ff""#))[0].hasPrefix(
        "/node_encryption_private_key_hex "))
    #expect(
      problems(Scene.keys(cast, #""operator_encryption_public_key_hex":"00ff""#))[0].hasPrefix(
        "/operator_encryption_public_key_hex "))
    // No diagnostic repeats a secret.
    let secret = pem(.ed25519(Ed25519.KeyPair()))
    for problem in problems(Scene.keys(cast).replacing(own, with: secret)) {
      #expect(!problem.contains(secret.split(separator: "\\n")[1]))
    }
  }

  @Test func everythingWrongIsSaidAtOnce() throws {
    let cast = try Cast()
    let found = problems(
      Scene.keys(
        cast,
        #""request_timeout_ms":1,"config_poll_interval_ms":5,"config_ca_file":"relative","config_token":"a b""#))
    #expect(found.count == 4, "\(found)")
    #expect(problems(Scene.keys(cast, #""updates":"sometimes""#))[0].hasPrefix("/updates "))
    #expect(problems(Scene.keys(cast, #""update":"stage""#))[0].hasPrefix("/update "))
  }

  @Test func addressesAreRead() throws {
    let cast = try Cast()
    func place(_ url: String, _ more: String = "") throws -> ConfigurationPlace {
      try Scene.settings(Scene.keys(cast, more, url: url)).place
    }
    #expect(try place("HTTP://Config.Example:9900/below/").text == "http://config.example:9900/below")
    #expect(try place("https://[::1]:8443").text == "https://[::1]:8443")
    #expect(try place("https://config.example").port == 443)
    let named = try place("http://reader:p%40ss@config.example")
    #expect(named.text == "http://config.example" && named.authorization == "Basic cmVhZGVyOnBAc3M=")
    #expect(try place("http://c", #""config_token":"abc""#).authorization == "Bearer abc")
    for url in [
      "", "config.example", "ftp://x", "http://", "http://h?x=1", "http://h#x", "http://h:0", "http://h:99999",
    ] {
      #expect(problems(Scene.keys(cast, url: url)).first?.hasPrefix("/config_url ") == true, "\(url)")
    }
  }
}
