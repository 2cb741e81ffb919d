/// Turns the JSON of a manifest into a `Manifest`, or into one sentence on what is wrong where.
struct ManifestReader {
  private let file: String
  private let bytes: [UInt8]
  private let members: [StrictJSON.Member]

  private static let knownKeys = [
    "id", "version", "kinds", "schemes", "abi", "state_version", "volatile", "handover", "isolation", "runtime",
    "configuration_schema", "secrets", "listeners", "metrics", "licence", "source",
  ]

  init(_ root: StrictJSON, file: String, bytes: [UInt8]) throws(Refusal) {
    self.file = file
    self.bytes = bytes
    guard case .object(let members) = root.value else {
      throw Refusal.manifestInvalid(
        file: file, pointer: "", reason: "is \(root.kind) and not an object",
        remedy: "begin manifest.json with { and put the keys of docs/manifest.md inside")
    }
    self.members = members
  }

  func manifest() throws(Refusal) -> Manifest {
    Manifest(
      id: try identifier(), version: try version(), kinds: try kinds(), schemes: try schemes(), abi: try abi(),
      stateVersion: try optionalInteger("state_version"), isVolatile: try boolean("volatile", default: false),
      handover: try choice("handover", default: .overlap), isolation: try choice("isolation", default: .any),
      runtime: try optionalText("runtime") ?? "unspecified", configurationSchema: try configurationSchema(),
      secrets: try textList("secrets"), listeners: try listeners(), metrics: try textList("metrics"),
      licence: try optionalText("licence"), source: try optionalText("source"),
      warnings: unknownKeys(members, known: Self.knownKeys, under: ""))
  }

  // MARK: Single keys

  private func identifier() throws(Refusal) -> String {
    let id = try text("id")
    let labels = id.split(separator: ".", omittingEmptySubsequences: false)
    let isValid =
      id.utf8.count <= 255 && labels.count >= 2
      && labels.allSatisfy { label in
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
          && label.utf8.allSatisfy { isLowerCaseLetter($0) || isDigit($0) || $0 == UInt8(ascii: "-") }
      }
    guard isValid else {
      throw invalid(
        "/id", "is \(Wording.quoted(id)), which is not a name in reverse DNS",
        "write a domain of yours back to front in lower case and then the name, such as \"com.example.ledger\"")
    }
    return id
  }

  private func version() throws(Refusal) -> String {
    let version = try text("version")
    guard isSemanticVersion(version) else {
      throw invalid(
        "/version", "is \(Wording.quoted(version)), which is not a semantic version",
        "write three numbers with dots, such as \"1.4.0\" or \"1.4.0-beta.1\"")
    }
    return version
  }

  private func kinds() throws(Refusal) -> [String] {
    _ = try required("kinds", "an array of strings")
    let kinds = try textList("kinds")
    guard !kinds.isEmpty else {
      throw invalid("/kinds", "is empty", "name at least one of \(Manifest.knownKinds.joined(separator: ", "))")
    }
    for (index, kind) in kinds.enumerated() where !Manifest.knownKinds.contains(kind) {
      throw invalid(
        "/kinds/\(index)",
        "is \(Wording.quoted(kind)), which is no kind of plugin\(Wording.suggestion(for: kind, among: Manifest.knownKinds))",
        "use one of \(Manifest.knownKinds.joined(separator: ", "))")
    }
    return kinds
  }

  private func schemes() throws(Refusal) -> [String] {
    let schemes = try textList("schemes")
    for (index, scheme) in schemes.enumerated() {
      let isValid =
        scheme.utf8.count <= 64 && scheme.utf8.first.map(isLowerCaseLetter) == true
        && scheme.utf8.allSatisfy { isLowerCaseLetter($0) || isDigit($0) || "+-.".utf8.contains($0) }
      guard isValid else {
        throw invalid(
          "/schemes/\(index)", "is \(Wording.quoted(scheme)), which is not a URL scheme in lower case",
          "write the part before \"://\" alone, such as \"sqlite\"")
      }
    }
    return schemes
  }

  private func abi() throws(Refusal) -> Manifest.ABI {
    let value = try required("abi", "an object")
    guard case .object(let members) = value.value else { throw wrongKind("/abi", value, "an object") }
    func number(_ key: String) throws(Refusal) -> Int {
      guard let found = members.first(where: { $0.key == key })?.value else {
        throw invalid("/abi", "lacks \"\(key)\"", "copy major and minor from the headers it was built against")
      }
      return try integer(found, at: "/abi/\(key)")
    }
    return Manifest.ABI(major: try number("major"), minor: try number("minor"))
  }

  private func listeners() throws(Refusal) -> [Manifest.Listener] {
    var listeners: [Manifest.Listener] = []
    for (index, value) in try list("listeners").enumerated() {
      let place = "/listeners/\(index)"
      guard case .object(let members) = value.value else { throw wrongKind(place, value, "an object") }
      func field(_ key: String) throws(Refusal) -> String {
        guard let found = members.first(where: { $0.key == key })?.value else {
          throw invalid(place, "lacks \"\(key)\"", "give each listener a \"name\" and a \"config_key\"")
        }
        return try text(found, at: "\(place)/\(key)")
      }
      var listener = Manifest.Listener(name: try field("name"), configurationKey: try field("config_key"))
      if let address = members.first(where: { $0.key == "default" })?.value {
        switch address.value {
        case .string(let text): listener.defaultAddress = text
        case .number: listener.defaultAddress = String(try integer(address, at: "\(place)/default"))
        default: throw wrongKind("\(place)/default", address, "a string or a port number")
        }
      }
      guard !listeners.contains(where: { $0.name == listener.name }) else {
        throw invalid(
          "\(place)/name", "is \(Wording.quoted(listener.name)) for the second time", "give each listener its own name")
      }
      listeners.append(listener)
    }
    return listeners
  }

  private func configurationSchema() throws(Refusal) -> String? {
    guard let value = present("configuration_schema") else { return nil }
    switch value.value {
    // JSON Schema allows `true` and `false` as schemas.
    case .object, .boolean: return String(decoding: bytes[value.range], as: UTF8.self)
    default: throw wrongKind("/configuration_schema", value, "an object (a JSON Schema)")
    }
  }

  private func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String, default standard: Choice
  ) throws(Refusal) -> Choice where Choice.RawValue == String {
    guard let word = try optionalText(key) else { return standard }
    guard let choice = Choice(rawValue: word) else {
      let known = Choice.allCases.map(\.rawValue)
      throw invalid(
        "/\(key)", "is \(Wording.quoted(word))\(Wording.suggestion(for: word, among: known))",
        "use one of \(known.joined(separator: ", "))")
    }
    return choice
  }

  private func unknownKeys(_ members: [StrictJSON.Member], known: [String], under pointer: String) -> [String] {
    let unknown = members.filter { !known.contains($0.key) }
    var warnings = unknown.prefix(16).map { member in
      let place = Wording.printable(pointer + StrictJSON.pointerToken(member.key), lengthMax: 200)
      return "\(Wording.printable(file)): the manifest's key at \(place) is not known and is ignored"
        + "\(Wording.suggestion(for: member.key, among: known)); correct it or take it out."
    }
    if unknown.count > 16 {
      warnings.append(
        "\(Wording.printable(file)): \(unknown.count - 16) more unknown keys of the manifest are ignored.")
    }
    return warnings
  }

  // MARK: Values

  private func present(_ key: String) -> StrictJSON? {
    members.first { $0.key == key }?.value
  }

  private func required(_ key: String, _ wanted: String) throws(Refusal) -> StrictJSON {
    if let value = present(key) { return value }
    let misspelt = members.map(\.key).filter { !Self.knownKeys.contains($0) }
    throw invalid("", "lacks \"\(key)\"\(Wording.suggestion(for: key, among: misspelt))", "add it: \(wanted)")
  }

  private func text(_ key: String) throws(Refusal) -> String {
    try text(try required(key, "a string"), at: "/\(key)")
  }

  private func optionalText(_ key: String) throws(Refusal) -> String? {
    guard let value = present(key) else { return nil }
    return try text(value, at: "/\(key)")
  }

  private func text(_ value: StrictJSON, at pointer: String) throws(Refusal) -> String {
    guard case .string(let text) = value.value else { throw wrongKind(pointer, value, "a string") }
    guard !text.isEmpty else { throw invalid(pointer, "is an empty string", "give it a value or take the key out") }
    guard text.utf8.count <= 1_024 else {
      throw invalid(pointer, "is longer than 1024 bytes", "shorten it")
    }
    // These reach C strings, file names and log lines.
    guard !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) else {
      throw invalid(pointer, "holds a control character", "take it out")
    }
    return text
  }

  private func list(_ key: String) throws(Refusal) -> [StrictJSON] {
    guard let value = present(key) else { return [] }
    guard case .array(let elements) = value.value else { throw wrongKind("/\(key)", value, "an array") }
    guard elements.count <= Manifest.listMax else {
      throw invalid("/\(key)", "has \(elements.count) entries and at most \(Manifest.listMax) are taken", "shorten it")
    }
    return elements
  }

  private func textList(_ key: String) throws(Refusal) -> [String] {
    var texts: [String] = []
    for (index, value) in try list(key).enumerated() {
      let entry = try text(value, at: "/\(key)/\(index)")
      guard !texts.contains(entry) else {
        throw invalid("/\(key)/\(index)", "is \(Wording.quoted(entry)) for the second time", "take one of the two out")
      }
      texts.append(entry)
    }
    return texts
  }

  private func boolean(_ key: String, default standard: Bool) throws(Refusal) -> Bool {
    guard let value = present(key) else { return standard }
    guard case .boolean(let truth) = value.value else { throw wrongKind("/\(key)", value, "true or false") }
    return truth
  }

  private func optionalInteger(_ key: String) throws(Refusal) -> Int? {
    guard let value = present(key) else { return nil }
    return try integer(value, at: "/\(key)")
  }

  private func integer(_ value: StrictJSON, at pointer: String) throws(Refusal) -> Int {
    guard case .number(let digits) = value.value else { throw wrongKind(pointer, value, "a whole number") }
    guard let number = Int32(digits), number >= 0 else {
      throw invalid(
        pointer, "is \(Wording.printable(digits, lengthMax: 40))", "write a whole number from 0 to \(Int32.max)")
    }
    return Int(number)
  }

  private func wrongKind(_ pointer: String, _ value: StrictJSON, _ wanted: String) -> Refusal {
    invalid(pointer, "is \(value.kind)", "write \(wanted) there")
  }

  private func invalid(_ pointer: String, _ reason: String, _ remedy: String) -> Refusal {
    Refusal.manifestInvalid(file: file, pointer: pointer, reason: reason, remedy: remedy)
  }

  // MARK: Characters

  private func isLowerCaseLetter(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z") }
  private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  /// Semantic Versioning 2.0.0, sections 2, 9 and 10.
  private func isSemanticVersion(_ version: String) -> Bool {
    guard version.utf8.count <= 255 else { return false }
    let build = version.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
    let release = build[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    let core = release[0].split(separator: ".", omittingEmptySubsequences: false)
    guard core.count == 3, core.allSatisfy({ isNumber($0) }) else { return false }
    if build.count == 2, !areIdentifiers(build[1], numbersAreStrict: false) { return false }
    return release.count < 2 || areIdentifiers(release[1], numbersAreStrict: true)
  }

  private func isNumber(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.count <= 18 && text.utf8.allSatisfy(isDigit) && (text == "0" || text.first != "0")
  }

  private func areIdentifiers(_ text: Substring, numbersAreStrict: Bool) -> Bool {
    text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { identifier in
      let isAllowed = identifier.utf8.allSatisfy { byte in
        isDigit(byte) || isLowerCaseLetter(byte | 0x20) || byte == UInt8(ascii: "-")
      }
      guard !identifier.isEmpty, isAllowed else { return false }
      return !numbersAreStrict || !identifier.utf8.allSatisfy(isDigit) || identifier == "0" || identifier.first != "0"
    }
  }
}
