/// A configuration that a service wants the node to have: a layer over files, environment and flags
/// (backplane/service.h, `bp_proposal`). It goes with `LoadedConfiguration`, so that it is kept exactly when that was
/// taken.
public struct Proposal: Sendable, Equatable, Codable, CustomStringConvertible, CustomReflectable {
  /// Largest text, in bytes.
  static let sizeBytesMax = 1 << 20
  /// Deepest nesting of its text.
  static let depthMax = 32
  /// Most values in it; each is kept with its place.
  static let valuesMax = YAMLReader.valuesMax

  /// The slot whose service made it.
  public let slot: String
  /// As it was made. **May hold secrets.**
  let json: String
  /// The slots of its backends, in their order: as the proposal before had them until it is laid over a configuration.
  var backends: [Backend] = []
  /// The receipt of the reload that took it; 0 before.
  public var receipt: UInt64 = 0
  /// When it was taken: UTC, ISO 8601; empty before.
  public var at = ""

  /// A backend that it names by its URL.
  struct Backend: Sendable, Equatable, Codable {
    var slot: String
    /// With placeholders filled. **May hold a secret.**
    var url: String
  }

  /// - Parameters:
  ///   - slot: of the service that makes it.
  ///   - json: backplane/service.h says what it holds; read when it is laid over a configuration.
  ///   - before: the proposal of that slot that is in place; backends that it names too keep their slots.
  public init(slot: String, json: String, after before: Proposal? = nil) {
    self.slot = slot
    self.json = json
    backends = before?.backends ?? []
    if let before, before.json == json {
      receipt = before.receipt
      at = before.at
    }
  }

  /// One line without secrets.
  public var description: String { "proposal of slot \(slot) (\(json.utf8.count) bytes)" }

  /// What `dump`, `String(reflecting:)` and test failures see: nothing secret either.
  public var customMirror: Mirror { Mirror(self, children: ["description": description]) }
}
