import Glibc

/// How isolated plugins are kept alive (`isolation.*`), and where their host executable is.
struct IsolationSettings: Sendable, Equatable {
  /// `backplane-host`.
  var hostExecutable: String
  var sharedMemorySizeBytes: Int
  var waitingSizeBytesMax: Int
  var restartDelayMsMax: Int
  var crashesMax: Int
  var crashWindowMs: Int
  var breakerOpenMs: Int
  var cancelGraceMs: Int
  /// Bound on a child's create and configure, and on its start when it is restarted.
  var startTimeoutMs: Int

  init(
    hostExecutable: String, _ settings: NodeConfiguration.Isolation = NodeConfiguration.Isolation(),
    startTimeoutMs: Int = 10_000
  ) {
    self.hostExecutable = hostExecutable
    sharedMemorySizeBytes = settings.sharedMemorySizeBytes
    waitingSizeBytesMax = settings.waitingSizeBytesMax
    restartDelayMsMax = settings.restartDelayMsMax
    crashesMax = settings.crashesMax
    crashWindowMs = settings.crashWindowMs
    breakerOpenMs = settings.breakerOpenMs
    cancelGraceMs = settings.cancelGraceMs
    self.startTimeoutMs = startTimeoutMs
  }

  /// `backplane-host` beside the running executable.
  static var besideThisExecutable: String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    let path = String(decoding: buffer[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return path[..<(path.lastIndex(of: "/") ?? path.startIndex)] + "/backplane-host"
  }
}
