import Foundation
import JSONText
import MessageCrypto
import NodeTesting
import Testing

/// A node with the B3nd schema.
final class B3ndNode {
  let node: NodeProcess
  let client: HTTPConnection

  /// - Parameters:
  ///   - schema: further keys of the schema's slot, as a YAML flow mapping's members.
  ///   - backend: the backend's slot.
  ///   - more: further lines of the configuration.
  init(
    schema: String = "", backend: String = #"{kind: backend, url: "memory://"}"#, more: String = "",
    folder: TemporaryFolder? = nil
  ) throws {
    let port = FreePort.find()
    node = try NodeProcess(
      folder: folder, plugins: BuiltProducts.bundled + ["schema-b3nd"], environment: ["PORT": ""],
      configuration: """
        slots:
          http: {kind: transport, port: \(port)}
          records: \(backend)
          schema: {kind: schema, plugin: org.backplane.b3nd\(schema.isEmpty ? "" : ", \(schema)")}
        \(more)
        """, port: port)
    client = try HTTPConnection(port: port)
  }

  /// Nil when it is accepted, else the text of the refusal.
  func receive(_ uri: String, _ data: String) throws -> String? {
    let answer = try client.post("/api/v1/receive", #"{"tx":["\#(uri)",\#(data)]}"#)
    if answer.status == 200 {
      #expect(answer.text == #"{"accepted":true}"#)
      return nil
    }
    #expect(answer.status == 400, "\(answer.status) \(answer.text)")
    let object = try #require(answer.json as? [String: Any], "\(answer.text)")
    #expect(object["accepted"] as? Bool == false)
    return try #require(object["error"] as? String)
  }

  /// The data of a record, as it is stored; nil when there is none.
  func data(_ uri: String) throws -> String? {
    let answer = try client.get("/api/v1/read/" + uri.replacing("://", with: "/"))
    guard answer.status == 200 else {
      #expect(answer.status == 404)
      return nil
    }
    let start = try #require(answer.text.firstRange(of: #","data":"#))
    return String(answer.text[start.upperBound...].dropLast())
  }

  func delete(_ uri: String) throws -> HTTPConnection.Answer {
    try client.request("DELETE", "/api/v1/delete/" + uri.replacing("://", with: "/"))
  }
}

func envelope(_ outputs: [String]) -> String {
  #"{"payload":{"inputs":[],"outputs":[\#(outputs.joined(separator: ","))]}}"#
}

/// Signs as the peer's client does.
struct Signer {
  private let pair: Ed25519.KeyPair
  var key: String { pair.publicKeyHex }

  init(_ number: UInt8) throws {
    let seed = [UInt8](repeating: number, count: 32)
    pair = try #require(Ed25519.KeyPair(seed: seed.withUnsafeBytes { SecretBytes(copying: $0) }))
  }

  func message(_ payload: String) throws -> String {
    var text: [UInt8] = []
    try Array(payload.utf8).withUnsafeBytes { try CanonicalText.append($0, order: .signing, to: &text) }
    let signature = Hexadecimal.text(text.withUnsafeBytes { pair.sign($0) })
    return #"{"auth":[{"pubkey":"\#(key)","signature":"\#(signature)"}],"payload":\#(payload)}"#
  }
}

/// Where a JSON value stands under `hash://`.
func digestURI(_ json: String) throws -> String {
  var text: [UInt8] = []
  try Array(json.utf8).withUnsafeBytes { try CanonicalText.append($0, order: .canonical, to: &text) }
  return "hash://sha256/" + Hexadecimal.text(text.withUnsafeBytes { SHA256.digest(of: $0) })
}

/// Runs `body` on `count` threads of their own, at once; what they came to.
func onThreads<Value: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Value) throws -> [Value] {
  let results = Results<Value>()
  let group = DispatchGroup()
  for index in 0..<count {
    group.enter()
    Thread {
      results.add(Result { try body(index) })
      group.leave()
    }.start()
  }
  group.wait()
  return try results.all.map { try $0.get() }
}

private final class Results<Value: Sendable>: @unchecked Sendable {
  // @unchecked: guarded by `lock`.
  private let lock = NSLock()
  private var results: [Result<Value, any Error>] = []

  func add(_ result: Result<Value, any Error>) { lock.withLock { results.append(result) } }
  var all: [Result<Value, any Error>] { lock.withLock { results } }
}
