/// What the command line says: the last layer. Every field is what stands behind one flag; nil means not given.
public struct ConfigurationFlags: Sendable, Equatable {
  /// `--config FILE`.
  public var config: String?
  /// `--port N`: the text as typed, so that its error reads like that of `PORT`.
  public var port: String?
  /// `--backend URL`, repeatable or comma separated; empty means not given. Takes the place of `BACKEND_URL`.
  public var backendURLs: [String] = []
  /// `--cors-origin ORIGIN`.
  public var corsOrigin: String?
  /// `--schema FILE`: a schema plugin.
  public var schemaModule: String?
  /// `--config-url URL`: where the node's configuration is; the rest of managed mode is in the environment.
  public var configURL: String?
  /// `--plugins DIRECTORY`, repeatable; empty means not given.
  public var pluginDirectories: [String] = []
  /// `--state DIRECTORY`.
  public var stateDirectory: String?
  /// `--runtime DIRECTORY`.
  public var runtimeDirectory: String?
  /// `--log-level LEVEL`.
  public var logLevel: String?
  /// `--log-format FORMAT`.
  public var logFormat: String?
  /// `--set KEY=VALUE`, repeatable, for any setting of the catalog; the last of one key wins.
  public var settings: [String] = []

  public init() {}
}
