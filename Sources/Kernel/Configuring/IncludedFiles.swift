/// Files whose content is a value of the configuration: `rules: ${yaml:rules.yaml}`.
///
/// The whole value of a slot's key, or of a key in a file that was taken in so, may be such a placeholder. The content
/// then is a part of the slot's configuration: a changed file is a changed slot, and what a plugin says of a value in it
/// is told with the file's name and line. A file that is taken in holds data: no other placeholder is filled in it, and
/// it names files of its own folder and below only.
struct IncludedFiles {
  /// Most files of one configuration, and how deep they may take in one another.
  static let filesMax = 256
  static let depthMax = 8
  /// Of one file; of all together as well, since the content goes to the plugin as one configuration.
  static let sizeBytesMax = YAMLReader.sizeBytesMax

  private static let prefix = "${yaml:"
  private var sizeBytes = 0
  /// Absolute paths of what was read.
  private(set) var files: [String] = []

  /// The path in `${yaml:PATH}`; nil for any other text.
  static func path(in text: String) -> String? {
    guard text.hasPrefix(prefix), text.hasSuffix("}"), text.utf8.count > prefix.utf8.count + 1 else { return nil }
    let path = text.dropFirst(prefix.count).dropLast()
    return path.contains("}") ? nil : String(path)
  }

  /// The folders to watch; sorted, each once.
  var folders: [String] { Set(files.map(ConfigurationFile.directory(of:))).sorted() }

  /// The content of a file that a configuration names. Relative paths are relative to `base`.
  mutating func content(
    of path: String, base: String, origin: ConfigurationOrigin, pointer: String, problems: inout ProblemList
  ) -> ConfigurationNode {
    let absolute = ConfigurationFile.absolute(path, base: base)
    return read(
      absolute, shown: path, below: ConfigurationFile.directory(of: absolute), [absolute], origin: origin,
      pointer: pointer, problems: &problems) ?? ConfigurationNode(.null, origin)
  }

  private mutating func read(
    _ absolute: String, shown: String, below folder: String, _ way: [String], origin: ConfigurationOrigin,
    pointer: String, problems: inout ProblemList
  ) -> ConfigurationNode? {
    guard files.count < Self.filesMax else {
      problems.add(origin, pointer: pointer, "More than \(Self.filesMax) files are taken in.")
      return nil
    }
    let bytes: [UInt8]
    do throws(ConfigurationFile.Failure) {
      bytes = try ConfigurationFile.read(absolute, sizeBytesMax: Self.sizeBytesMax)
    } catch {
      // Watched all the same: it may be on its way.
      files.append(absolute)
      problems.add(origin, pointer: pointer, "The file \(Redaction.quoted(shown)) cannot be read: \(error.reason).")
      return nil
    }
    files.append(absolute)
    sizeBytes += bytes.count
    guard sizeBytes <= Self.sizeBytesMax else {
      problems.add(origin, pointer: pointer, "The files taken in have more than \(Self.sizeBytesMax) bytes together.")
      return nil
    }
    guard let mapping = YAMLReader.readMapping(bytes, path: shown, problems: &problems) else { return nil }
    let node = ConfigurationNode(.mapping(mapping), .file(path: shown, line: 1))
    return filled(node, shown, below: folder, way, pointer: pointer, problems: &problems)
  }

  /// The node with the files that it takes in.
  private mutating func filled(
    _ node: ConfigurationNode, _ file: String, below folder: String, _ way: [String], pointer: String,
    problems: inout ProblemList
  ) -> ConfigurationNode {
    switch node.value {
    case .text(let text):
      guard let path = Self.path(in: text) else { return node }
      let absolute = ConfigurationFile.absolute(path, base: ConfigurationFile.directory(of: way[way.count - 1]))
      let isBelow = absolute.hasPrefix(folder == "/" ? "/" : folder + "/")
      guard isBelow else {
        problems.add(
          node.origin, pointer: pointer,
          "The file \(Redaction.quoted(path)) is not below the folder of the file that takes it in. Move it there.")
        return node
      }
      guard !way.contains(absolute), way.count < Self.depthMax else {
        problems.add(
          node.origin, pointer: pointer,
          way.contains(absolute)
            ? "The file \(Redaction.quoted(path)) takes itself in."
            : "Files take in one another deeper than \(Self.depthMax).")
        return node
      }
      let shownFolder = ConfigurationFile.directory(of: file)
      let shown = shownFolder == "." || path.hasPrefix("/") ? path : shownFolder + "/" + path
      return read(
        absolute, shown: shown, below: folder, way + [absolute], origin: node.origin, pointer: pointer,
        problems: &problems) ?? node
    case .list(let nodes):
      var result: [ConfigurationNode] = []
      for (index, child) in nodes.enumerated() {
        result.append(filled(child, file, below: folder, way, pointer: "\(pointer)/\(index)", problems: &problems))
      }
      return ConfigurationNode(.list(result), node.origin)
    case .mapping(let mapping):
      var result = ConfigurationMapping()
      for entry in mapping.entries {
        let place = JSONPointer.appending(entry.key, to: pointer)
        result.set(
          entry.key, filled(entry.node, file, below: folder, way, pointer: place, problems: &problems),
          keyOrigin: entry.keyOrigin)
      }
      return ConfigurationNode(.mapping(result), node.origin)
    default: return node
    }
  }
}

/// One file read as a slot would be given it, for commands that look at such a file alone.
public struct IncludedFile: Sendable {
  /// The content as canonical JSON.
  public let json: String
  private let origins: [String: ConfigurationOrigin]

  /// - Throws: everything that keeps it from being read, with file and line.
  public init(_ path: String, workingDirectory: String) throws(ConfigurationError) {
    var problems = ProblemList()
    var files = IncludedFiles()
    let node = files.content(
      of: path, base: workingDirectory, origin: .file(path: path, line: 0), pointer: "", problems: &problems)
    try problems.throwIfAny()
    json = node.value.canonicalJSON
    origins = node.value.origins(node.origin)
  }

  /// Where the value at a JSON pointer stands, or the nearest value that encloses it.
  public func origin(at pointer: String) -> ConfigurationOrigin? { SlotConfiguration.origin(at: pointer, in: origins) }
}

extension ConfigurationValue {
  /// Where every value below this one stands, by JSON pointer.
  func origins(_ origin: ConfigurationOrigin) -> [String: ConfigurationOrigin] {
    var origins: [String: ConfigurationOrigin] = [:]
    collectOrigins(pointer: "", origin, &origins)
    return origins
  }

  private func collectOrigins(
    pointer: String, _ origin: ConfigurationOrigin, _ origins: inout [String: ConfigurationOrigin]
  ) {
    origins[pointer] = origin
    switch self {
    case .list(let nodes):
      for (index, node) in nodes.enumerated() {
        node.value.collectOrigins(pointer: "\(pointer)/\(index)", node.origin, &origins)
      }
    case .mapping(let mapping):
      for entry in mapping.entries {
        // The line of the key: a mapping's own begins below it.
        entry.node.value.collectOrigins(
          pointer: JSONPointer.appending(entry.key, to: pointer), entry.keyOrigin, &origins)
      }
    default: break
    }
  }
}
