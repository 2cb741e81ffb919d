import BackplaneABI

/// Writes to a backend what it has missed, in the order in which it was acknowledged, until nothing is missing.
///
/// Nobody reads from the backend meanwhile and no other write goes there, so a batch is one write for each URI, the last
/// one: what it would have overwritten at once need not be written first.
final class Repairer: Sendable {
  private static let batchBytesMax = 8 << 20
  /// How long the calls that are made at a time may take.
  private static let batchTimeoutNs: UInt64 = 30_000_000_000
  /// How long until the next attempt: doubled from the first to the last.
  private static let pauseNsMin: UInt64 = 50_000_000
  private static let pauseNsMax: UInt64 = 1_000_000_000
  /// An answer that is no refusal, and comes again and again though others are taken, is one.
  private static let attemptsMax = 8
  /// Marks a record of the batch that was refused for good.
  private static let refusedAttempts = Int.max
  /// Calls at a time.
  private static let callsMax = 512

  private unowned let kernel: KernelContext

  init(_ kernel: KernelContext) { self.kernel = kernel }

  func run(_ backlog: Backlog, stopped: Promise<Bool>) {
    var pauseNs = Repairer.pauseNsMin
    var attempts: [[UInt8]: Int] = [:]
    var startNs = Clock.monotonicNs()
    var unitsCount = 0
    while stopped.get(untilNs: 0) == nil {
      let batch: Backlog.Batch?
      do throws(JournalProblem) {
        batch = try backlog.nextBatch(
          unitsMax: kernel.repairs.batchUnitsMax.load(ordering: .relaxed), bytesMax: Repairer.batchBytesMax)
      } catch {
        kernel.log.error("a repair journal cannot be read", ["slot": backlog.slot, "reason": error.sentence])
        backlog.giveUpJournal(error)
        continue
      }
      guard let batch, !batch.isEmpty else {
        if backlog.level() {
          if unitsCount > 0 { finished(backlog, unitsCount, startNs) }
          return
        }
        backlog.waitForChange(untilNs: Clock.monotonicNs() + Repairer.pauseNsMin)
        continue
      }
      let failure = apply(batch, backlog, &attempts)
      if let failure {
        backlog.failed(Redaction.redact(failure))
        pause(pauseNs, stopped)
        pauseNs = min(pauseNs * 2, Repairer.pauseNsMax)
      } else {
        if unitsCount == 0 { startNs = Clock.monotonicNs() }
        unitsCount += batch.units.count
        attempts = [:]
        pauseNs = Repairer.pauseNsMin
        backlog.consume(batch)
      }
    }
  }

  private func pause(_ pauseNs: UInt64, _ stopped: Promise<Bool>) {
    _ = stopped.get(untilNs: Clock.monotonicNs() + pauseNs)
  }

  private func finished(_ backlog: Backlog, _ unitsCount: Int, _ startNs: UInt64) {
    let elapsedMs = (Clock.monotonicNs() - startNs) / 1_000_000
    kernel.log.notice(
      backlog.isBehind
        ? "a backend has got what its repair journal had, and is still behind"
        : "a backend that was behind has got everything that it missed",
      ["slot": backlog.slot, "units": "\(unitsCount)", "duration_ms": "\(elapsedMs)"])
  }

  /// Nil: the backend has everything of the batch that it will ever take. Else why not; then all of it comes again.
  private func apply(
    _ batch: Backlog.Batch, _ backlog: Backlog, _ attempts: inout [[UInt8]: Int]
  ) -> String? {
    guard !batch.units.isEmpty else { return nil }
    guard let lease = kernel.ring.acquireAdmitted() else { return "the node is ending" }
    defer { kernel.ring.release(lease) }
    guard let instance = lease.generation.instance(slot: backlog.slot), instance.backend != nil else {
      return "the slot has nothing that serves"
    }
    var last: [[UInt8]: (unit: Int, op: Int)] = [:]
    for (unitIndex, unit) in batch.units.enumerated() {
      for (opIndex, op) in unit.ops.enumerated() { last[op.uri] = (unitIndex, opIndex) }
    }
    let wanted = last.values.sorted { ($0.unit, $0.op) < ($1.unit, $1.op) }
      .map { RepairCalls.Write(batch.units[$0.unit], $0.op) }
      .filter { attempts[$0.op.uri] != Repairer.refusedAttempts }
    // An envelope alone may be more than the slot takes calls at a time.
    let callsMax = max(1, min(Repairer.callsMax, kernel.inFlightMax.load(ordering: .relaxed) / 2))
    var start = 0
    while start < wanted.count {
      let part = Array(wanted[start..<min(start + callsMax, wanted.count)])
      if let failure = write(part, instance, lease.number, backlog, &attempts) { return failure }
      start += part.count
    }
    return nil
  }

  /// Nil: the backend has all of these that it will ever take.
  private func write(
    _ writes: [RepairCalls.Write], _ instance: Instance, _ generation: UInt64, _ backlog: Backlog,
    _ attempts: inout [[UInt8]: Int]
  ) -> String? {
    let calls = RepairCalls(
      instance, generation, writes, deadlineNs: Clock.monotonicNs() + Repairer.batchTimeoutNs)
    switch calls.run() {
    case .failed(let failure): return failure.reason
    case .ended(let failures):
      for (index, failure) in failures {
        let uri = writes[index].op.uri
        attempts[uri, default: 0] += 1
        let isFinal = failure.isRefusal || attempts[uri]! >= Repairer.attemptsMax
        // Whatever is left comes again with the whole batch.
        guard isFinal, !Repairer.isOutage(failure) else { return failure.reason }
      }
      for (index, failure) in failures {
        refuse(writes[index].op, failure, backlog)
        attempts[writes[index].op.uri] = Repairer.refusedAttempts
      }
      return nil
    }
  }

  private func refuse(_ op: MissedUnit.Op, _ failure: CallFailure, _ backlog: Backlog) {
    let uri = Wording.printable(String(decoding: op.uri, as: UTF8.self), lengthMax: 256)
    backlog.refused.add(1, ordering: .relaxed)
    kernel.log.error(
      "a backend refuses a write that it missed", ["slot": backlog.slot, "uri": uri, "reason": failure.reason])
    backlog.markIncomplete("it refused what it had missed, at first \(uri): \(failure.reason)")
    kernel.repairs.recordIncomplete(backlog)
  }

  /// What says nothing of the record.
  private static func isOutage(_ failure: CallFailure) -> Bool {
    [BP_UNAVAILABLE, BP_DEADLINE_EXCEEDED, BP_CANCELLED, BP_CLOSED].contains(failure.code)
      || failure.code == BP_RESOURCE_EXHAUSTED && failure.isRetryable
  }
}

extension CallFailure {
  /// What a backend says of this record alone, and will say again.
  var isRefusal: Bool {
    switch code {
    case BP_INVALID_ARGUMENT, BP_REJECTED, BP_OUT_OF_RANGE, BP_UNIMPLEMENTED, BP_PERMISSION_DENIED,
      BP_FAILED_PRECONDITION:
      true
    case BP_RESOURCE_EXHAUSTED: !isRetryable
    default: false
    }
  }
}
