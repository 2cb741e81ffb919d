import Foundation
import JSONText
import MessageCrypto
import VectorTesting

extension SharedVectors {
  /// Every authenticated message that the reference signed, printed as it prints them. Not through Foundation, which
  /// loses the order of members.
  static func signedMessages() throws -> [String] {
    let bytes = Array(try data("b3nd.json"))
    return try bytes.withUnsafeBytes { bytes in
      let file = try JSONScanner().scan(bytes).get()
      var texts: [String] = []
      func search(_ value: JSONSlice) throws {
        if try AuthenticatedMessage.find(in: value) != nil {
          texts.append(String(decoding: try CanonicalText.signing(value), as: UTF8.self))
        } else {
          for element in value.elements { try search(element) }
          for member in value.members { try search(member.value) }
        }
      }
      // The lists of the others are about envelopes, whose signatures are none.
      for (key, value) in file.members where ["authenticated", "signedEncrypted", "managed"].contains(key.text) {
        try search(value)
      }
      return texts
    }
  }
}
