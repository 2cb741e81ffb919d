import BackplaneABI

/// backplane.timer/1.
enum TimerTable {
  static let id = "backplane.timer/1"

  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_timer> = {
    let table = UnsafeMutablePointer<bp_timer>.allocate(capacity: 1)
    table.initialize(
      to: bp_timer(
        size: UInt32(MemoryLayout<bp_timer>.size), reserved: 0, after: { TimerTable.after($0, $1, $2) }))
    return UnsafePointer(table)
  }()

  private static func after(_ handle: bp_instance, _ dueNs: UInt64, _ completion: bp_completion) -> bp_token {
    guard let caller = InstanceRegistry.shared.find(handle) else {
      Answers.complete(completion, BP_CLOSED, "the instance is gone", as: bp_result.self)
      return 0
    }
    switch caller.state {
    // What begins to work within its own start may want to be woken.
    case .configured, .serving, .quiesced: return caller.kernel.timers.after(caller, dueNs: dueNs, completion)
    default:
      Answers.complete(completion, BP_CLOSED, "the instance is not started", as: bp_result.self)
      return 0
    }
  }
}
