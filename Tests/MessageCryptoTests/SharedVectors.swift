import Foundation
import JSONText
import MessageCrypto
import Testing

/// Golden data recorded on the reference implementation; it lives beside the package, or where BACKPLANE_SHARED says.
enum SharedVectors {
  static func object(_ name: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: try data(name)) as? [String: Any])
  }

  private static func data(_ name: String) throws -> Data {
    let root =
      ProcessInfo.processInfo.environment["BACKPLANE_SHARED"].map { URL(filePath: $0) }
      ?? URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../shared").standardized
    let file = root.appending(path: "vectors/\(name)")
    do {
      return try Data(contentsOf: file)
    } catch {
      Issue.record("\(file.path) cannot be read: set BACKPLANE_SHARED to the folder that holds vectors/. (\(error))")
      throw error
    }
  }

  /// One list of b3nd.json.
  static func list(_ name: String) throws -> [[String: Any]] {
    try #require(try object("b3nd.json")[name] as? [[String: Any]], "b3nd.json has no list \(name)")
  }

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
