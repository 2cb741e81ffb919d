import Synchronization

extension Generation {
  /// Backends in the order reads try them: as configured, those that missed an acknowledged write last (boundary.md,
  /// "Writes": not read from while another can answer). `body` says whether to go on.
  @inline(__always)
  func forEachReadable(_ body: (_ backend: Instance, _ isBehind: Bool) -> Bool) {
    var someBehind = false
    for backend in backends {
      if backend.isBehind {
        someBehind = true
      } else if !body(backend, false) {
        return
      }
    }
    guard someBehind else { return }
    for backend in backends where backend.isBehind {
      if !body(backend, true) { return }
    }
  }

  /// The same as a list, and how many of them are up to date.
  func readable() -> (order: [Instance], upToDate: Int) {
    let fresh = backends.filter { !$0.isBehind }
    return (fresh + backends.filter { $0.isBehind }, fresh.count)
  }
}
