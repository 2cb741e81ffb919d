import Foundation
import Testing

@testable import JSONText

/// The shared vectors: `BACKPLANE_SHARED`, or the folder `shared` beside the package.
enum Shared {
  static let root: URL = {
    if let given = ProcessInfo.processInfo.environment["BACKPLANE_SHARED"] {
      return URL(fileURLWithPath: given)
    }
    return URL(fileURLWithPath: #filePath).deletingLastPathComponent()  // JSONTextTests
      .deletingLastPathComponent().deletingLastPathComponent()  // the package
      .deletingLastPathComponent().appendingPathComponent("shared")
  }()

  static func file(_ path: String) throws -> [UInt8] {
    let url = root.appendingPathComponent("vectors").appendingPathComponent(path)
    do {
      return [UInt8](try Data(contentsOf: url))
    } catch {
      Issue.record("The shared vectors are missing: \(url.path). Set BACKPLANE_SHARED to the folder that has vectors/.")
      throw error
    }
  }

  static func files(in folder: String) throws -> [String] {
    let url = root.appendingPathComponent("vectors").appendingPathComponent(folder)
    do {
      return try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
    } catch {
      Issue.record("The shared vectors are missing: \(url.path). Set BACKPLANE_SHARED to the folder that has vectors/.")
      throw error
    }
  }

  /// One list of b3nd.json, read by Foundation so that the library does not judge itself.
  static func vectors(_ name: String) throws -> [[String: Any]] {
    let whole = try JSONSerialization.jsonObject(with: Data(try file("b3nd.json"))) as? [String: Any]
    return try #require(whole?[name] as? [[String: Any]], "b3nd.json has no list \(name)")
  }
}

/// A generator with a seed, so that a failure can be repeated (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

func problem(_ bytes: [UInt8], _ scanner: JSONScanner = JSONScanner()) -> JSONError? {
  bytes.withUnsafeBytes { buffer in
    switch scanner.scan(buffer) {
    case .success: return nil
    case .failure(let error): return error
    }
  }
}

func problem(_ text: String, _ scanner: JSONScanner = JSONScanner()) -> JSONError? {
  problem(Array(text.utf8), scanner)
}

/// Runs `body` on the validated value of `text`.
func withValue<Value>(_ text: String, _ body: (JSONSlice) throws -> Value) throws -> Value {
  try Array(text.utf8).withUnsafeBytes { try body(try JSONScanner(depthMax: 1_000_000).scan($0).get()) }
}

func ordered(_ bytes: [UInt8], _ order: CanonicalText.Order, depthMax: Int = 512) throws(JSONError) -> [UInt8] {
  var output: [UInt8] = []
  var failure: JSONError?
  bytes.withUnsafeBytes { buffer in
    do throws(JSONError) {
      try CanonicalText.append(buffer, order: order, to: &output, depthMax: depthMax)
    } catch {
      failure = error
    }
  }
  if let failure { throw failure }
  return output
}

func ordered(_ text: String, _ order: CanonicalText.Order) throws -> String {
  String(decoding: try ordered(Array(text.utf8), order), as: UTF8.self)
}

func string(_ slice: JSONSlice) -> String { String(decoding: slice.bytes, as: UTF8.self) }
