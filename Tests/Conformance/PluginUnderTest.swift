import PluginAPI

/// What the suite is told of a plugin. The image must be loaded already, and stays loaded.
public struct PluginUnderTest: @unchecked Sendable {
  // @unchecked: the entry is a constant of an image that is never unmapped (core.h, "The entry").

  public var entry: UnsafePointer<bp_entry>
  /// Calls the plugin's entry function again; nil: purity is judged by the entry's content alone.
  public var entryAgain: (@Sendable () -> UnsafePointer<bp_entry>?)?
  /// The manifest's URL schemes, listeners' names, and whether records die with the instance.
  public var schemes: [String]
  public var listeners: [String]
  public var isVolatile: Bool
  /// The manifest's state_version; nil: it says none.
  public var stateVersion: UInt32?
  /// The manifest's configuration_schema, JSON text: it says which keys there are, to be given the wrong type.
  public var configurationSchema: String?
  /// The configuration to test with, one JSON object. nil: `{"url": "<scheme>://"}` for a backend, else `{}`. Whatever
  /// it names is written to.
  public var configuration: String?
  /// How a process is started that opens the plugin and calls `CrashWriter.run`, to be killed; nil: that is not tried.
  public var crashCommand: (@Sendable (CrashOrder) throws -> CrashCommand)?
  /// Absolute path of an existing, empty directory. State directories are made in it and removed again.
  public var scratchDirectory: String

  public init(
    entry: UnsafePointer<bp_entry>, scratchDirectory: String, schemes: [String] = [], listeners: [String] = [],
    isVolatile: Bool = false, stateVersion: UInt32? = nil, configurationSchema: String? = nil,
    configuration: String? = nil, entryAgain: (@Sendable () -> UnsafePointer<bp_entry>?)? = nil,
    crashCommand: (@Sendable (CrashOrder) throws -> CrashCommand)? = nil
  ) {
    self.entry = entry
    self.entryAgain = entryAgain
    self.crashCommand = crashCommand
    self.schemes = schemes
    self.listeners = listeners
    self.isVolatile = isVolatile
    self.stateVersion = stateVersion
    self.configurationSchema = configurationSchema
    self.configuration = configuration
    self.scratchDirectory = scratchDirectory
  }

  var kinds: [String] { (0..<Int(entry.pointee.kinds_count)).map { entry.pointee.kinds[$0].text } }

  /// The configuration that instances of the suite get.
  var effectiveConfiguration: String {
    if let configuration { return configuration }
    guard kinds.contains("backend"), let scheme = schemes.first else { return "{}" }
    return #"{"url":"\#(scheme)://"}"#
  }
}
