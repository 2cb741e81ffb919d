/// Where a configured value came from. Later cases win over earlier ones.
public enum ConfigurationOrigin: Sendable, Hashable, Codable, CustomStringConvertible {
  /// Built in, or computed from other settings (`directories.staging` from `directories.state`).
  case builtIn
  /// A line of `backplane.yaml` or of a drop-in; lines count from 1, and 0 means the file as a whole.
  case file(path: String, line: Int)
  /// An environment variable.
  case environment(name: String)
  /// A flag of the command line, with its dashes.
  case flag(name: String)
  /// What a service has proposed, with its place there as a JSON pointer; empty for the proposal as a whole.
  case proposal(slot: String, pointer: String)

  /// `default`, `file backplane.yaml:12`, `env PORT`, `flag --port` or `proposal of slot managed at /backends/0/url`: the
  /// words `config show` prints.
  public var description: String {
    switch self {
    case .builtIn: "default"
    case .file(let path, let line): line > 0 ? "file \(path):\(line)" : "file \(path)"
    case .environment(let name): "env \(name)"
    case .flag(let name): "flag \(name)"
    case .proposal(let slot, let pointer):
      pointer.isEmpty ? "proposal of slot \(slot)" : "proposal of slot \(slot) at \(pointer)"
    }
  }
}
