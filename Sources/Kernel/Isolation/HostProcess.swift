import Glibc
import IsolationWire
import SystemShims

/// A `backplane-host` child, named by a pidfd: no other process is ever killed in its place.
final class HostProcess: Sendable {
  let descriptor: Int32

  /// The kernel's ends of what a child is born with.
  struct Ends {
    var calls: Int32
    var questions: Int32?
    var canonical: Int32?
    var crashes: Int32?
    var memory: SharedMemory?
  }

  /// How it ended.
  struct Ending: Sendable {
    /// 0: by itself.
    var signal: Int32
    var status: Int32
  }

  private init(_ descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Starts one for `slot`; blocks for a millisecond or two.
  static func start(
    _ executable: String, slot: String, sharedBytes: Int
  ) -> Result<(HostProcess, Ends), ChildSpawner.Failure> {
    var pairs: [[Int32]] = []
    var isComplete = true
    for _ in 0..<3 {
      var pair: [Int32] = [-1, -1]
      if bp_shim_socket_pair(&pair) != 0 { isComplete = false }
      pairs.append(pair)
    }
    var crashes: [Int32] = [-1, -1]
    if bp_shim_pipe(&crashes) != 0 { isComplete = false }
    let memory = SharedMemory.make(sizeBytes: sharedBytes)
    let nothing = open("/dev/null", O_RDWR | O_CLOEXEC)
    defer {
      for descriptor in [nothing, crashes[1]] + pairs.map({ $0[1] }) where descriptor >= 0 { close(descriptor) }
    }
    func giveUp(_ sentence: String) -> Result<(HostProcess, Ends), ChildSpawner.Failure> {
      for descriptor in [crashes[0]] + pairs.map({ $0[0] }) where descriptor >= 0 { close(descriptor) }
      return .failure(ChildSpawner.Failure(sentence: sentence))
    }
    guard isComplete, let memory, nothing >= 0 else {
      return giveUp("no descriptor or memory is free: \(String(cString: strerror(errno)))")
    }
    let started = ChildSpawner.shared.spawn(
      executable, [slot, "\(getpid())", "\(sharedBytes)"],
      descriptors: [
        // What the plugin prints is kept apart from answers: it goes where the kernel's log goes.
        (nothing, 0), (2, 1), (2, 2), (pairs[0][1], HostDescriptors.calls), (pairs[1][1], HostDescriptors.questions),
        (pairs[2][1], HostDescriptors.canonical), (memory.descriptor, HostDescriptors.memory),
        (crashes[1], HostDescriptors.crashes),
      ])
    switch started {
    case .failure(let failure): return giveUp(failure.sentence)
    case .success(let descriptor):
      return .success(
        (
          HostProcess(descriptor),
          Ends(
            calls: pairs[0][0], questions: pairs[1][0], canonical: pairs[2][0], crashes: crashes[0], memory: memory)
        ))
    }
  }

  func kill() { _ = bp_shim_pidfd_kill(descriptor, SIGKILL) }

  /// Reaps it: once, after the descriptor has become readable or `kill`.
  func wait() -> Ending {
    var signal: Int32 = 0
    var status: Int32 = 0
    _ = bp_shim_pidfd_wait(descriptor, &signal, &status)
    return Ending(signal: signal, status: status)
  }
}

extension HostProcess.Ending {
  /// `SIGSEGV`, `it ended with status 3`.
  var cause: String {
    // The host ends in peace when its connection does, and nobody here ended it.
    if signal == 0, status == 0 { return "it closed its connection" }
    return Child.Ending(output: [], errors: [], signal: signal, status: status, isTimedOut: false).cause
  }
}
