import JSONText

/// Software that an operator wants a node to run.
public struct UpdateManifest: Equatable, Sendable {
  /// Any text; compared for being another one, never for being a later one.
  public var version: String
  public var moduleUrl: String
  /// SHA-256 of the module, as the operator wrote it; nil: none was given.
  public var checksum: String?
  public var releaseNotes: String?

  public init(version: String, moduleUrl: String, checksum: String?, releaseNotes: String? = nil) {
    self.version = version
    self.moduleUrl = moduleUrl
    self.checksum = checksum
    self.releaseNotes = releaseNotes
  }

  /// Whether the checksum can be compared with anything: 64 hexadecimal digits.
  public var hasUsableChecksum: Bool {
    guard let checksum else { return false }
    return checksum.utf8.count == 64 && checksum.utf8.allSatisfy { isHexadecimalDigit($0) }
  }

  /// The payload, keys in the reference's order.
  public var text: [UInt8] {
    var object = ObjectText()
    object.add("version", version)
    object.add("moduleUrl", moduleUrl)
    if let checksum { object.add("checksum", checksum) }
    if let releaseNotes { object.add("releaseNotes", releaseNotes) }
    return object.text
  }

  /// Everything by which `value` is no update.
  public static func problems(in value: JSONSlice) -> [DocumentProblem] {
    guard value.isObject else { return [DocumentProblem(pointer: "", text: "update must be an object")] }
    var list = ProblemList()
    list.require(value.member("version")?.nonEmptyText != nil, "/version", "version required")
    list.require(value.member("moduleUrl")?.nonEmptyText != nil, "/moduleUrl", "moduleUrl required")
    return list.problems
  }

  /// Reads a document.
  public init(_ document: [UInt8]) throws(DocumentError) {
    self = try withDocument(document) { value in
      if let problem = Self.problems(in: value).first { return .failure(.rule(problem)) }
      return .success(
        UpdateManifest(
          version: value.string("version") ?? "", moduleUrl: value.string("moduleUrl") ?? "",
          checksum: value.member("checksum")?.nonEmptyText, releaseNotes: value.member("releaseNotes")?.nonEmptyText))
    }
  }
}
