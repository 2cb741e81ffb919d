/// Finds and reads the files: `backplane.yaml` and `conf.d/*.yaml` beside it.
struct ConfigurationFiles {
  static let dropInsMax = 64

  /// One file that could be read.
  struct Document {
    let mapping: ConfigurationMapping
    /// The path as shown to people.
    let shownPath: String
    let absolutePath: String
  }

  private(set) var documents: [Document] = []
  /// The folder of `backplane.yaml`, absolute; nil without one.
  private(set) var directory: String?

  /// Reads them all; what cannot be read is a problem. `named` is the path from `--config` or BACKPLANE_CONFIG.
  init(named: (path: String, origin: ConfigurationOrigin)?, workingDirectory: String, problems: inout ProblemList) {
    let candidates = named.map { [$0.path] } ?? ["backplane.yaml", "/etc/backplane/backplane.yaml"]
    for path in candidates {
      let absolutePath = ConfigurationFile.absolute(path, base: workingDirectory)
      do throws(ConfigurationFile.Failure) {
        let bytes = try ConfigurationFile.read(absolutePath, sizeBytesMax: YAMLReader.sizeBytesMax)
        directory = ConfigurationFile.directory(of: absolutePath)
        add(bytes, shownPath: path, absolutePath: absolutePath, problems: &problems)
        readDropIns(beside: path, workingDirectory: workingDirectory, problems: &problems)
        return
      } catch {
        if case .missing = error, named == nil { continue }
        problems.add(
          named?.origin ?? .file(path: path, line: 0),
          "The configuration file \(Redaction.quoted(path)) cannot be read: \(error.reason).")
        return
      }
    }
  }

  private mutating func readDropIns(beside path: String, workingDirectory: String, problems: inout ProblemList) {
    let folder = ConfigurationFile.directory(of: path)
    let shownDirectory = folder == "." && !path.hasPrefix("./") ? "conf.d" : folder + "/conf.d"
    let absoluteDirectory = ConfigurationFile.absolute(shownDirectory, base: workingDirectory)
    let names: [String]
    do throws(ConfigurationFile.Failure) {
      names = (try ConfigurationFile.names(in: absoluteDirectory) ?? []).filter {
        $0.hasSuffix(".yaml") && !$0.hasPrefix(".")
      }
    } catch {
      problems.add(.file(path: shownDirectory, line: 0), "The folder of drop-ins cannot be read: \(error.reason).")
      return
    }
    guard names.count <= Self.dropInsMax else {
      problems.add(
        .file(path: shownDirectory, line: 0),
        "The folder holds \(names.count) drop-ins; at most \(Self.dropInsMax) are taken.")
      return
    }
    for name in names {
      let shownPath = shownDirectory + "/" + name
      do throws(ConfigurationFile.Failure) {
        let bytes = try ConfigurationFile.read(absoluteDirectory + "/" + name, sizeBytesMax: YAMLReader.sizeBytesMax)
        add(bytes, shownPath: shownPath, absolutePath: absoluteDirectory + "/" + name, problems: &problems)
      } catch {
        problems.add(.file(path: shownPath, line: 0), "The drop-in cannot be read: \(error.reason).")
      }
    }
  }

  private mutating func add(
    _ bytes: [UInt8], shownPath: String, absolutePath: String, problems: inout ProblemList
  ) {
    let mapping = YAMLReader.readMapping(bytes, path: shownPath, problems: &problems)
    documents.append(
      Document(mapping: mapping ?? ConfigurationMapping(), shownPath: shownPath, absolutePath: absolutePath))
  }
}
