/// What a process that writes until it is killed is told.
public struct CrashOrder: Codable, Sendable, Equatable {
  public enum Work: Codable, Sendable, Equatable {
    /// Each writer goes on from its number until the process is killed.
    case writeForEver(from: [Int])
    /// Writes until files may not grow, and again when they may.
    case runOutOfRoom
  }

  public var work: Work
  public var seed: UInt64
  public var stateDirectory: String
}

/// What such a process says: one JSON object for each line.
enum CrashLine: Codable, Equatable {
  /// The unit of a writer was acknowledged.
  case acknowledged(writer: Int, number: Int, durability: UInt32)
  /// A large write without room and with it.
  case large(number: Int, code: UInt32, message: String)
  /// A small read while there was no room.
  case read(code: UInt32)
  /// Stopped in an orderly way.
  case stopped(isHealthy: Bool)
  case failed(String)
}

/// How to start a process that calls `CrashWriter.run` with the order. It must die with its parent.
public struct CrashCommand: Sendable {
  public var executable: String
  public var arguments: [String]
  public var input: [UInt8]

  public init(executable: String, arguments: [String], input: [UInt8]) {
    self.executable = executable
    self.arguments = arguments
    self.input = input
  }
}
