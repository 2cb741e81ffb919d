import PluginAPI

/// Input of an open call: bytes go to the plugin only as far as it has allowed them by `bp_host.grant`.
extension HostCore {
  /// `bp_host.grant`: more input for a call that this instance handles, or more of a stream that it reads.
  func grant(_ token: bp_token, _ credits: UInt32) -> bp_code {
    let (code, granted): (bp_code, OpenCall?) = state.withLock { state in
      switch state.calls.find(token) {
      case .open(let call):
        guard let allowed = call.inputCredits else {
          state.violations.append(
            Violation(kind: .grantWithoutInput, text: "input was granted for token \(token), a call that takes none"))
          return (BP_CLOSED, nil)
        }
        call.inputCredits = allowed + UInt64(credits)
        return (BP_OK, call)
      case .finished: return (BP_CLOSED, nil)
      case .foreign, .unknown:
        // The node's only stream, read_multi, is bounded by its request and needs no credit.
        return (state.hostCalls[token] == nil ? BP_CLOSED : BP_OK, nil)
      }
    }
    if let granted { wakeInput(granted) }
    return code
  }

  /// Takes credit for at most `wanted` units of input, waiting while there is none; nil when the call has ended.
  func takeInputCredit(_ token: bp_token, upTo wanted: UInt64) async -> UInt64? {
    while true {
      var isOver = false
      var taken: UInt64 = 0
      await withCheckedContinuation { continuation in
        let goesOn = state.withLock { state in
          guard case .open(let call) = state.calls.find(token), !call.isGivenUp, let allowed = call.inputCredits else {
            isOver = true
            return true
          }
          taken = min(allowed, wanted)
          call.inputCredits = allowed - taken
          if taken == 0 { call.inputWaiters.append(continuation) }
          return taken > 0
        }
        if goesOn { continuation.resume() }
      }
      if isOver { return nil }
      if taken > 0 { return taken }
    }
  }

  /// Lets everybody look again who waits for credit.
  func wakeInput(_ call: OpenCall) {
    let waiters = state.withLock { _ in
      defer { call.inputWaiters = [] }
      return call.inputWaiters
    }
    for waiter in waiters { waiter.resume() }
  }
}

extension TestStream {
  /// How much input the plugin allows at the moment.
  public var inputCredits: UInt64 {
    call.core.state.withLock { state in
      guard case .open(let open) = state.calls.find(token) else { return 0 }
      return open.inputCredits ?? 0
    }
  }

  /// Hands `bytes` to the plugin in as many pieces as its grants ask for, waiting for each. `deliver` calls the plugin's
  /// input function with one piece, which is overwritten as soon as that returns. False when the call ended before all
  /// of it was taken.
  public func send(_ bytes: [UInt8], deliver: @Sendable (bp_view) -> Void) async -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      guard let count = await call.core.takeInputCredit(token, upTo: UInt64(rest.count)) else { return false }
      // A piece has memory of its own: one that is kept beyond the call reads rubbish.
      let piece = RequestArena()
      deliver(piece.view(Array(rest.prefix(Int(count)))))
      rest = rest.dropFirst(Int(count))
    }
    return true
  }
}
