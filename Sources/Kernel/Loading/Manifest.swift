/// What a plugin says of itself before it is run: the JSON of its `Backplane` note. The format is docs/manifest.md.
public struct Manifest: Equatable, Sendable {
  public struct ABI: Equatable, Sendable, CustomStringConvertible {
    public var major: Int
    public var minor: Int

    public init(major: Int, minor: Int) {
      self.major = major
      self.minor = minor
    }

    public var description: String { "\(major).\(minor)" }
  }

  /// How an instance follows another of the same plugin: see boundary.md, "Handover of state".
  public enum Handover: String, Sendable, CaseIterable {
    case overlap
    case stopThenStart = "stop-then-start"
  }

  /// Where the author allows it to run.
  public enum Isolation: String, Sendable, CaseIterable {
    case inProcess = "in"
    case process
    case any
  }

  /// A listening socket that the kernel is to bind before `start` and lend.
  public struct Listener: Equatable, Sendable {
    public var name: String
    /// The key of the plugin's configuration that says where.
    public var configurationKey: String
    /// Where, when the configuration does not say: the text of a string, or of a number (a port).
    public var defaultAddress: String?
  }

  public static let knownKinds = ["backend", "schema", "transport", "oracle", "llm", "service"]
  /// Lists in a manifest hold at most so many entries.
  static let listMax = 256

  /// Reverse DNS, lower case: `org.backplane.sqlite`.
  public var id: String
  /// Semantic versioning 2.0.0.
  public var version: String
  public var kinds: [String]
  /// URL schemes it serves, lower case, such as `sqlite`.
  public var schemes: [String]
  public var abi: ABI
  /// Format of its exported state, or `nil` when it exports none.
  public var stateVersion: Int?
  /// Its data does not outlive an instance.
  public var isVolatile: Bool
  public var handover: Handover
  public var isolation: Isolation
  /// `swift`, `c`, `rust` or other text; `unspecified` when absent.
  public var runtime: String
  /// JSON Schema of its configuration, as written: for documentation and editors.
  public var configurationSchema: String?
  /// Names of the secrets it wants. It gets no others.
  public var secrets: [String]
  public var listeners: [Listener]
  /// Names of the metrics it reports.
  public var metrics: [String]
  public var licence: String?
  /// Where its source is.
  public var source: String?
  /// Sentences about what was ignored, such as unknown keys.
  public var warnings: [String]

  /// Reads and validates a manifest.
  /// - Parameters:
  ///   - bytes: the JSON, at most 64 KiB.
  ///   - file: the name of the plugin's file, for the sentences.
  /// - Throws: `plugin.manifest-too-large` or `plugin.manifest-invalid`, naming file, JSON pointer and remedy.
  public static func parse(_ bytes: [UInt8], file: String) throws(Refusal) -> Manifest {
    guard bytes.count <= ELFReader.manifestSizeBytesMax else {
      throw Refusal.manifestTooLarge(file: file, sizeBytes: UInt64(bytes.count))
    }
    let root: StrictJSON
    do throws(StrictJSON.Failure) {
      root = try StrictJSON.parse(bytes)
    } catch {
      throw Refusal.manifestInvalid(
        file: file, pointer: error.pointer, reason: "is not valid JSON, at byte \(error.offsetBytes): \(error.reason)",
        remedy: "correct manifest.json there and build the plugin again")
    }
    let reader = try ManifestReader(root, file: file, bytes: bytes)
    return try reader.manifest()
  }
}

extension Refusal {
  static func manifestTooLarge(file: String, sizeBytes: UInt64) -> Refusal {
    Refusal(
      file: file, phase: .verified, code: Code.manifestTooLarge,
      sentence: "\(Wording.printable(file)): its manifest is \(sizeBytes) bytes and at most "
        + "\(ELFReader.manifestSizeBytesMax) are read; shorten manifest.json (the configuration schema is usually the "
        + "largest part) and build the plugin again.")
  }

  static func manifestInvalid(file: String, pointer: String, reason: String, remedy: String) -> Refusal {
    let place = pointer.isEmpty ? "" : " at \(Wording.printable(pointer, lengthMax: 200))"
    return Refusal(
      file: file, phase: .verified, code: Code.manifestInvalid,
      sentence: "\(Wording.printable(file)): the manifest\(place) \(reason); \(remedy).")
  }
}
