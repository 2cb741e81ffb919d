import JSONText
import SodiumShim

/// Who may come in.
struct Credentials: Sendable {
  var user: String
  var password: String
}

/// The server's side of SCRAM-SHA-256 (RFC 7677), which does not keep the password's digest but makes it anew.
struct ScramExchange {
  private let credentials: Credentials
  private static let salt: [UInt8] = Array("a salt of 28 bytes for tests".utf8)
  private static let iterations = 4_096
  private var clientFirstBare = ""
  private var serverFirst = ""
  private var nonce = ""
  private(set) var isDone = false
  private var isProven = false

  init(_ credentials: Credentials) { self.credentials = credentials }

  /// `n,,n=user,r=nonce`
  mutating func begin(_ payload: [UInt8]) throws(ServerError) -> [UInt8] {
    let text = String(decoding: payload, as: UTF8.self)
    guard text.hasPrefix("n,,") else { throw Self.failed }
    clientFirstBare = String(text.dropFirst(3))
    let fields = Self.fields(clientFirstBare)
    guard let clientNonce = fields["r"] else { throw Self.failed }
    nonce = clientNonce + "serverpart"
    serverFirst = "r=\(nonce),s=\(Self.base64(Self.salt)),i=\(Self.iterations)"
    return Array(serverFirst.utf8)
  }

  /// `c=biws,r=nonce,p=proof`, and after that an empty message.
  mutating func proceed(_ payload: [UInt8]) throws(ServerError) -> [UInt8] {
    if isProven {
      isDone = true
      return []
    }
    let text = String(decoding: payload, as: UTF8.self)
    let fields = Self.fields(text)
    guard fields["r"] == nonce, let proof = fields["p"], let end = text.lastIndex(of: ",") else { throw Self.failed }
    guard Self.fields(clientFirstBare)["n"] == credentials.user else { throw Self.failed }
    let salted = Self.salted(Array(credentials.password.utf8))
    let clientKey = Self.hmac(salted, Array("Client Key".utf8))
    let authMessage = Array("\(clientFirstBare),\(serverFirst),\(text[..<end])".utf8)
    let signature = Self.hmac(Self.sha256(clientKey), authMessage)
    let wanted = zip(clientKey, signature).map { $0 ^ $1 }
    var given: [UInt8] = []
    Array(proof.utf8).withUnsafeBytes { Base64.decodeLeniently($0, into: &given) }
    guard given == wanted else { throw Self.failed }
    isProven = true
    let serverSignature = Self.hmac(Self.hmac(salted, Array("Server Key".utf8)), authMessage)
    return Array("v=\(Self.base64(serverSignature))".utf8)
  }

  private static let failed = ServerError(18, "AuthenticationFailed", "Authentication failed.")

  private static func fields(_ text: String) -> [String: String] {
    var fields: [String: String] = [:]
    for part in text.split(separator: ",") where part.dropFirst().first == "=" {
      fields[String(part.prefix(1))] = String(part.dropFirst(2))
    }
    return fields
  }

  private static func base64(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    bytes.withUnsafeBytes { Base64.encode($0, into: &text) }
    return String(decoding: text, as: UTF8.self)
  }

  private static func sha256(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    crypto_hash_sha256(&digest, bytes, UInt64(bytes.count))
    return digest
  }

  private static func hmac(_ key: [UInt8], _ message: [UInt8]) -> [UInt8] {
    var state = crypto_auth_hmacsha256_state()
    var digest = [UInt8](repeating: 0, count: 32)
    crypto_auth_hmacsha256_init(&state, key, key.count)
    crypto_auth_hmacsha256_update(&state, message, UInt64(message.count))
    crypto_auth_hmacsha256_final(&state, &digest)
    return digest
  }

  /// PBKDF2 with one block.
  private static func salted(_ password: [UInt8]) -> [UInt8] {
    var block = hmac(password, salt + [0, 0, 0, 1])
    var result = block
    for _ in 1..<iterations {
      block = hmac(password, block)
      for index in result.indices { result[index] ^= block[index] }
    }
    return result
  }
}
