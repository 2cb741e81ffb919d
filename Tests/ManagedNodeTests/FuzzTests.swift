import JSONText
import ManagedNode
import MessageCrypto
import Testing

/// Whatever stands at a URI was written by anybody: it is read or refused, and nothing else.
@Suite struct ManagedNodeFuzz {
  private let vectors: ManagedVectors
  private let seeds: [[UInt8]]

  init() throws {
    vectors = try ManagedVectors()
    seeds = try ["signedConfig", "signedEncryptedConfig", "signedUpdate", "signedNetwork"].map(vectors.raw)
  }

  /// Pieces that mean something, so that damage does not end at the scanner.
  private static let pieces = [
    "null", "{}", "[]", "\"\"", "-1", "1e999", "true", "\"push\"", "\"auth\":[],", "\"peers\":{},", "\"backends\":",
    "[[[[[[", "\\ud800", "\"nodes\":[{}],", "\"payload\":", "0.5",
  ].map { Array($0.utf8) }

  private func damaged(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
      let place = Int.random(in: 0..<bytes.count, using: &random)
      let end = min(bytes.count, place + Int.random(in: 0...24, using: &random))
      switch Int.random(in: 0..<5, using: &random) {
      case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes.removeSubrange(place..<end)
      case 2: bytes.insert(contentsOf: Self.pieces.randomElement(using: &random) ?? [], at: place)
      case 3: bytes.replaceSubrange(place..<end, with: Self.pieces.randomElement(using: &random) ?? [])
      default: bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &random))
      }
    }
    return bytes
  }

  /// Values in the places of other values, so that the text stays JSON.
  private func swapped(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
    let values = ["null", "{}", "[]", "\"\"", "-1", "1e999", "true", "[{}]", "{\"\":{}}", "\"x\""]
    var text = ""
    var isInValue = false
    for character in String(decoding: bytes, as: UTF8.self) {
      text.append(character)
      isInValue = character == ":"
      if isInValue, Int.random(in: 0..<12, using: &random) == 0 {
        text += (values.randomElement(using: &random) ?? "1") + ",\"\(Int.random(in: 0...9, using: &random))\":"
      }
    }
    return Array(text.utf8)
  }

  @Test(.timeLimit(.minutes(1))) func messagesAreOpenedOrRefused() throws {
    var random = SeededGenerator(seed: 20_261)
    let documents: [ManagedDocument] = [
      .config(operatorKey: try vectors.operatorKey, nodeId: try vectors.nodeId),
      .network(operatorKey: try vectors.operatorKey, networkId: "net-1"),
    ]
    let key = try vectors.nodeDecryptionKey
    var openedCount = 0
    var refusedCount = 0
    for round in 0..<4000 {
      let seed = seeds[round % seeds.count]
      let message = round % 3 == 0 ? swapped(seed, &random) : damaged(seed, &random)
      let document = documents[round % documents.count]
      do throws(ManagedMessageError) {
        let opened = try document.open(message, decryptionKey: key)
        openedCount += 1
        #expect(RawJSON(opened.payload.bytes) != nil)
      } catch {
        refusedCount += 1
        #expect(error.description.contains(document.uri))
      }
    }
    // White space and other entries may change; hardly anything else.
    #expect(refusedCount > 2000 && openedCount + refusedCount == 4000)
  }

  @Test(.timeLimit(.minutes(1))) func documentsAreReadOrRefused() throws {
    var random = SeededGenerator(seed: 20_262)
    let configuration = try json(vectors.text("configPlaintext"))
    let network = try ManagedDocument.network(operatorKey: vectors.operatorKey, networkId: "net-1")
      .open(vectors.raw("signedNetwork")).payload.bytes
    var readCount = 0
    for round in 0..<4000 {
      let seed = round % 2 == 0 ? configuration : network
      let document = round % 3 == 0 ? damaged(seed, &random) : swapped(seed, &random)
      let problems =
        round % 2 == 0 ? ManagedConfiguration.problems(in: document) : NetworkManifest.problems(in: document)
      #expect(problems.count <= 65)
      do {
        if round % 2 == 0 {
          let read = try ManagedConfiguration(document)
          #expect(problems.isEmpty)
          #expect(read.notices.count <= 65 && !read.backends.isEmpty)
          var again = try ManagedConfiguration(read.text)
          // What has no effect is not printed.
          again.notices = read.notices
          #expect(again == read)
        } else {
          let read = try NetworkManifest(document)
          #expect(problems.isEmpty)
          #expect(try NetworkManifest(read.text) == read)
        }
        readCount += 1
      } catch {
        #expect(!problems.isEmpty, "\(text(document))")
      }
    }
    #expect(readCount > 50 && readCount < 4000)
  }

  @Test(.timeLimit(.minutes(1))) func reportsAreReadOrRefused() {
    var random = SeededGenerator(seed: 20_263)
    let status = NodeStatus(
      nodeId: "n", name: "one", status: .online, lastHeartbeatMs: 1, uptimeMs: 2, configTimestampMs: 3, port: 4,
      backends: [.init(type: "memory", status: "connected")], metrics: NodeMetrics()
    ).text
    for round in 0..<4000 {
      let document = round % 2 == 0 ? damaged(status, &random) : swapped(status, &random)
      if let read = try? NodeStatus(document) { #expect((try? NodeStatus(read.text)) != nil) }
      if let read = try? NodeMetrics(document) { #expect(RawJSON(read.text) != nil) }
      if let read = try? UpdateManifest(document) { #expect(!read.version.isEmpty) }
    }
  }
}
