import BackplaneABI

/// What becomes of a call that an instance does not admit: too many are open there, or it has been replaced and its
/// place is in the published generation.
enum Admission {
  /// A lease on the published generation, when it has another instance in the slot of `instance`; the caller gives it
  /// back. Nil: the call ends with `failure(instance)`.
  static func successor(of instance: Instance) -> (lease: Lease, instance: Instance)? {
    let ring = instance.kernel.ring
    guard let lease = ring.acquireAdmitted() else { return nil }
    guard let next = lease.generation.instance(slot: instance.slot.name), next !== instance,
      next.slot.kind == instance.slot.kind
    else {
      ring.release(lease)
      return nil
    }
    return (lease, next)
  }

  static func failure(_ instance: Instance) -> CallFailure { instance.isClosed ? .slotGone : .tooManyCalls }
}

extension CallFailure {
  static let slotGone = CallFailure(
    code: BP_UNAVAILABLE, "the slot that the request began with is gone", isRetryable: true)
}
