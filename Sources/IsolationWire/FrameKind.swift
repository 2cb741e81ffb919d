/// What a frame says. Numbers are of one build: host and kernel are built together, and the greeting compares
/// `Wire.version`.
public enum FrameKind: UInt16, Sendable {
  // From the kernel.
  case greeting = 1
  case create, configure, start, quiesce, stop, destroy
  case apply = 16
  case read, scan, judge, exportState, importState, query, nodeReady, nodeEnding
  case cancel = 32
  case grant, askConnections
  /// The end of a call that the plugin made to the node, and a chunk of one.
  case nodeCompleted = 48
  case nodeChunk
  /// One item of a subscription.
  case feedItem

  // From the plugin's side.
  /// The end of a life-cycle function.
  case answer = 64
  /// The end of a call.
  case completed, chunk
  case log, record, health, connections, cancelNode
  case nodeReceive = 80
  case nodeRead, nodeReadMulti, nodeList, nodeRemove
  /// A subscription to the feed, and credits for one.
  case nodeSubscribe, grantNode
  case nodeTimer, nodePropose

  // Questions that somebody waits for, each with one `reply`, on a socket of their own.
  case reply = 112
  case askMetric, askBorrow, askPrograms, askHealth, askMetrics, askGrant, askCanonical, askOperations
}

/// What both sides have agreed on.
public enum Wire {
  public static let version: UInt32 = 5
  /// From this size on a frame's payload goes by shared memory.
  public static let sharedFromBytes = 16 << 10
  /// The longest payload that is sent or taken.
  public static let payloadSizeBytesMax = 1 << 30
  static let headerBytes = 16
  /// `flags`: the payload lies in shared memory; what follows the header is a `SharedBlock`.
  static let isShared: UInt16 = 1
}

/// How the result of a call is laid out.
public enum ResultShape: UInt32, Sendable {
  case plain, write, read, scan, verdict, list, query, proposal
}
