import Glibc
import SystemShims

/// The line between the process that somebody started and the kernels that come after it: each says who is next.
///
/// It is a pair of stream sockets. The first process has one end, all that follow share the other.
final class ShepherdLine: Sendable {
  /// What kernels write to.
  let kernelEnd: Int32
  /// The first process' own; nil in those that follow.
  let firstEnd: Int32?

  private init(_ kernelEnd: Int32, _ firstEnd: Int32?) {
    self.kernelEnd = kernelEnd
    self.firstEnd = firstEnd
  }

  deinit {
    guard let firstEnd else { return }
    close(firstEnd)
    close(kernelEnd)
  }

  /// The line that this process was born with, or a new one: then it is the first, and becomes the shepherd.
  static func ofThisProcess(_ origin: ProcessOrigin) throws(Refusal) -> ShepherdLine {
    if let descriptor = origin.shepherdDescriptor { return ShepherdLine(descriptor, nil) }
    var pair: [Int32] = [-1, -1]
    guard bp_shim_socket_pair(&pair) == 0, bp_shim_adopt_orphans() == 0 else {
      for descriptor in pair where descriptor >= 0 { close(descriptor) }
      throw SlotRefusals.upgrade("the system refuses what a shepherd needs: \(String(cString: strerror(errno)))")
    }
    return ShepherdLine(pair[1], pair[0])
  }

  /// Whoever has the other end is to follow this process from now on.
  func announce(_ pid: pid_t) {
    var pid = Int32(pid)
    _ = bp_shim_send(kernelEnd, &pid, MemoryLayout<Int32>.size, false)
  }
}
