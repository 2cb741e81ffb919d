import PluginAPI

/// What the plugin logged.
public struct LogEvent: Sendable, Equatable {
  public let level: Log.Level
  public let message: String
  public let fields: [String: String]
}

/// One time series that the plugin defined, and all that it recorded to it, in order.
public struct MetricSeries: Sendable, Equatable {
  public enum Kind: UInt32, Sendable {
    case counter = 0
    case gauge = 1
    case histogram = 2
  }

  public let kind: Kind
  public let name: String
  public let help: String
  public let unit: String
  public let labels: [String: String]
  public internal(set) var recorded: [Double] = []

  /// The sum of a counter, the last value of a gauge, the number of observations of a histogram.
  public var value: Double {
    switch kind {
    case .counter: recorded.reduce(0, +)
    case .gauge: recorded.last ?? 0
    case .histogram: Double(recorded.count)
    }
  }
}

/// What the plugin last said about itself.
public struct HealthReport: Sendable, Equatable {
  public let state: Context.Health
  public let message: String
}

/// What a life-cycle function had to say.
public struct Diagnostic: Sendable, Equatable, CustomStringConvertible {
  public enum Severity: UInt32, Sendable {
    case error = 0
    case warning = 1
    case note = 2
  }

  public let severity: Severity
  /// RFC 6901 into the configuration, or empty.
  public let pointer: String
  public let message: String

  public var description: String {
    pointer.isEmpty ? "\(severity): \(message)" : "\(severity) at \(pointer): \(message)"
  }
}

/// A life-cycle step that failed.
public struct TestHostError: Error, Sendable, CustomStringConvertible {
  /// `create`, `configure`, `start`, ...
  public let step: String
  public let code: bp_code
  public let diagnostics: [Diagnostic]

  public var description: String {
    "\(step) failed with code \(code)" + diagnostics.map { "\n  \($0)" }.joined()
  }
}

extension Diagnostic.Severity: CustomStringConvertible {
  public var description: String {
    switch self {
    case .error: "error"
    case .warning: "warning"
    case .note: "note"
    }
  }
}
