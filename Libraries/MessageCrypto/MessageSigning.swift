import JSONText

extension AuthenticatedMessage {
  /// Appends `{"auth":[…],"payload":…}` to `output`, byte for byte as the reference prints it: the payload in its text
  /// for signing, an entry for each of `signers`. What `output` held stays when it throws.
  /// - Parameters:
  ///   - former: entries that a message of the same payload had, kept in front, unless one of `signers` made them.
  ///   - signers: at least one; a key that stands there twice signs once.
  ///   - depthMax: most arrays and objects open at once in the payload.
  public static func append(
    payload: JSONSlice, signers: [Ed25519.KeyPair], addingTo former: AuthenticatedMessage? = nil,
    to output: inout [UInt8], depthMax: Int = 512
  ) throws(AuthenticationError) {
    precondition(!signers.isEmpty, "a message is signed by at least one key")
    var text: [UInt8] = []
    do throws(JSONError) {
      text = try CanonicalText.signing(payload, depthMax: depthMax)
    } catch { throw .payload(error) }
    var keys: [[UInt8]] = []
    var entries: [[UInt8]] = []
    for signer in signers where !keys.contains(signer.publicKey) {
      keys.append(signer.publicKey)
      let signature = text.withUnsafeBytes { signer.sign($0) }
      entries.append(
        Array(#"{"pubkey":"\#(signer.publicKeyHex)","signature":"\#(Hexadecimal.text(signature))"}"#.utf8))
    }
    if let former { entries = try former.printedEntries(notBy: keys) + entries }
    output.append(contentsOf: #"{"auth":["#.utf8)
    output.append(contentsOf: entries.joined(separator: [UInt8(ascii: ",")]))
    output.append(contentsOf: #"],"payload":"#.utf8)
    output.append(contentsOf: text)
    output.append(UInt8(ascii: "}"))
  }

  /// The entries in their text for signing.
  private func printedEntries(notBy keys: [[UInt8]]) throws(AuthenticationError) -> [[UInt8]] {
    var printed: [[UInt8]] = []
    for (entry, slice) in zip(entries, auth.elements) {
      if let text = entry.pubkey?.text, let key = Hexadecimal.decode(text), keys.contains(key) { continue }
      do throws(JSONError) {
        printed.append(try CanonicalText.signing(slice))
      } catch { throw .payload(error) }
    }
    return printed
  }
}
