import Foundation
import JSONText
import MessageCrypto

/// A message that a command works on: from a file or from standard input.
struct MessageInput {
  /// Largest message taken, in bytes.
  static let sizeBytesMax = NodeClient.bodySizeBytesMax

  let bytes: [UInt8]
  /// For errors.
  let place: String

  /// `path` is a file, or `-` or nil for standard input.
  init(_ path: String?) throws {
    let file = path == SecretInput.standardInput ? nil : path
    place = file ?? "standard input"
    do {
      let handle =
        try file.map { try FileHandle(forReadingFrom: URL(fileURLWithPath: $0)) } ?? FileHandle.standardInput
      bytes = Array(try handle.read(upToCount: Self.sizeBytesMax + 1) ?? Data())
    } catch {
      throw CommandFailure(.usage, "the message cannot be read from \(place): \(error.localizedDescription)")
    }
    guard bytes.count <= Self.sizeBytesMax else {
      throw CommandFailure(.usage, "the message in \(place) is larger than \(Self.sizeBytesMax >> 20) MiB.")
    }
  }

  init(bytes: [UInt8], place: String) {
    self.bytes = bytes
    self.place = place
  }

  /// Calls `body` with the message as JSON; the slice is valid during the call.
  func withValue<Value>(_ body: (JSONSlice) throws -> Value) throws -> Value {
    try bytes.withUnsafeBytes { bytes in
      switch JSONScanner().scan(bytes) {
      case .success(let value): return try body(value)
      case .failure(let error): throw CommandFailure(.usage, "the message in \(place) is not JSON. \(error)")
      }
    }
  }

  /// Calls `body` with the authenticated message that the message is, or nil when it is none.
  func withAuthenticated<Value>(_ body: (AuthenticatedMessage?) throws -> Value) throws -> Value {
    try withValue { value in
      do {
        return try body(try AuthenticatedMessage.find(in: value))
      } catch let error as AuthenticationError {
        throw CommandFailure(.refused, "\(error)")
      }
    }
  }

  /// The text that is encrypted: the message as JSON.stringify would print it, or its bytes as one JSON string.
  func plaintext(asText: Bool) throws -> [UInt8] {
    guard asText else {
      return try withValue { value in
        do { return try CanonicalText.signing(value) } catch { throw CommandFailure(.usage, "\(error)") }
      }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CommandFailure(.usage, "the message in \(place) is not UTF-8, so it is no text.")
    }
    var output: [UInt8] = []
    JSONWriter.appendString(text, to: &output)
    return output
  }
}
