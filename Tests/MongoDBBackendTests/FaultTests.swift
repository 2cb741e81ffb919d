import BackendSupport
import BackendTesting
import Glibc
import MongoWireServer
import PluginAPI
import Synchronization
import Testing

private let uri = "mutable://open/a"

/// What a server, or the way to it, can do wrong.
@Suite struct FaultTests {
  /// Statements that a driver may send again: an answer that is lost is asked for again, and nothing is done twice.
  @Test(arguments: [Fault.Kind.dropBefore, .dropAfter, .dropMidReply])
  func aReplicaSetIsAskedAgain(_ kind: Fault.Kind) throws {
    let bench = try Bench()
    bench.server.inject(Fault("update", kind))
    // Twice done, the second would say that there is a record.
    #expect(bench.backend.put(uri, "1", version: 1, if: .absent).code == BP_OK)
    bench.server.inject(Fault("update", kind))
    #expect(bench.backend.put(uri, "2", version: 2, if: .version(1)).code == BP_OK)
    bench.server.inject(Fault("delete", kind))
    let answer = bench.backend.apply([.delete(uri)])
    #expect(answer.code == BP_OK && answer.absentCount == 0)
    bench.server.inject(Fault("find", kind))
    #expect(bench.backend.read(uri).code == BP_NOT_FOUND)
    #expect(bench.server.malformed == [])
  }

  @Test(arguments: [
    ("update", Fault.Kind.dropAfter), ("update", .dropBefore), ("commitTransaction", .dropBefore),
    ("commitTransaction", .dropAfter), ("commitTransaction", .dropMidReply), ("find", .dropBefore),
    ("delete", .dropMidReply),
  ])
  func aTransactionIsDoneOnce(_ command: String, _ kind: Fault.Kind) throws {
    let bench = try Bench()
    _ = bench.backend.put("\(uri)/gone", "1", version: 1)
    bench.server.inject(Fault(command, kind))
    let answer = bench.backend.apply(
      [.put(uri, [0x31], .json, if: .absent), .delete("\(uri)/gone"), .delete("\(uri)/none")], version: 2)
    #expect(answer.code == BP_OK && answer.absentCount == 1, "\(answer)")
    #expect(bench.backend.scan("") == [uri])
  }

  /// Without sessions a broken connection leaves open what happened, and that is what is said.
  @Test func aServerOnItsOwnLeavesTheOutcomeUnknown() throws {
    let bench = try Bench(.standalone)
    for kind in [Fault.Kind.dropBefore, .dropAfter, .dropMidReply] {
      for command in ["update", "delete"] {
        bench.server.inject(Fault(command, kind))
        let answer = bench.backend.apply([command == "update" ? .put(uri, [0x31]) : .delete(uri)])
        #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable, "\(kind) \(answer)")
        #expect(answer.message.contains("not known whether"), "\(answer.message)")
        #expect(bench.backend.put("\(uri)/b", "1").code == BP_OK)
      }
    }
  }

  @Test(arguments: [Persona.replicaSet(name: "rs0"), .standalone])
  func whatTheServerRefusesIsNamed(_ persona: Persona) throws {
    let bench = try Bench(persona)
    let cases: [(Fault.Kind, bp_code, String, UInt32)] = [
      (
        .error(code: 14_031, name: "OutOfDiskSpace", text: "no space"), BP_RESOURCE_EXHAUSTED, "is full",
        BP_HEALTH_DEGRADED
      ),
      (.writeErrors(code: 14_031, text: "no space"), BP_RESOURCE_EXHAUSTED, "is full", BP_HEALTH_DEGRADED),
      (
        .error(code: 13, name: "Unauthorized", text: "not authorized"), BP_PERMISSION_DENIED, "readWrite",
        BP_HEALTH_DEGRADED
      ),
      (
        .error(code: 50, name: "MaxTimeMSExpired", text: "late"), BP_DEADLINE_EXCEEDED, "call_timeout_ms",
        BP_HEALTH_HEALTHY
      ),
      (
        .writeErrors(code: 121, text: "Document failed validation"), BP_INVALID_ARGUMENT, "validator", BP_HEALTH_HEALTHY
      ),
      (.error(code: 8_000, name: "AtlasError", text: "bad auth"), BP_UNAUTHENTICATED, "password", BP_HEALTH_UNHEALTHY),
      (.error(code: 1, name: "InternalError", text: "oops"), BP_INTERNAL, "oops", BP_HEALTH_HEALTHY),
    ]
    let sound = bench.backend.health.last?.state ?? BP_HEALTH_HEALTHY
    for (kind, code, text, health) in cases {
      bench.server.inject(Fault("update", kind))
      let answer = bench.backend.put(uri, "1")
      #expect(answer.code == code && answer.message.contains(text), "\(kind): \(answer)")
      #expect((bench.backend.health.last?.state ?? BP_HEALTH_HEALTHY) == max(health, sound), "\(kind)")
      #expect(bench.backend.put(uri, "2").code == BP_OK)
      #expect((bench.backend.health.last?.state ?? BP_HEALTH_HEALTHY) == sound)
    }
  }

  /// The write is there, and yet it must not be acknowledged.
  @Test(arguments: ["update", "commitTransaction", "delete"])
  func anUnconfirmedWriteIsNotAcknowledged(_ command: String) throws {
    let bench = try Bench(keys: #""call_timeout_ms":1000"#)
    bench.server.inject(
      Fault(command, .writeConcernError(code: 64, text: "waiting for replication timed out"), times: .max))
    let ops: [Op] =
      switch command {
      case "update": [.put(uri, [0x31])]
      case "delete": [.delete(uri)]
      default: [.put(uri, [0x31]), .put("\(uri)/b", [0x32])]
      }
    let answer = bench.backend.apply(ops)
    #expect(answer.code == BP_DURABILITY && answer.isRetryable, "\(answer)")
    #expect(answer.message.contains("not confirmed") && answer.durability == 0)
    #expect(bench.backend.health.last?.state == BP_HEALTH_DEGRADED)
    bench.server.clearFaults()
    #expect(bench.backend.put(uri, "2").code == BP_OK)
    #expect(bench.backend.health.last?.state == BP_HEALTH_HEALTHY)
  }

  /// A primary that steps down: the driver finds it again.
  @Test func aPrimaryThatIsNoneIsLookedForAgain() throws {
    let bench = try Bench()
    for command in ["update", "find"] {
      bench.server.inject(Fault(command, .error(code: 10_107, name: "NotWritablePrimary", text: "not primary")))
      #expect(bench.backend.put(uri, "1").code == BP_OK)
      #expect(bench.backend.text(uri) == "1")
    }
    bench.server.inject(Fault("update", .error(code: 10_107, name: "NotWritablePrimary", text: "not primary")))
    #expect(bench.backend.apply([.put(uri, [0x32]), .put("\(uri)/b", [0x32])]).code == BP_OK)
    #expect(bench.backend.text(uri) == "2")
  }

  @Test func aServerThatHangsIsGivenUp() throws {
    let bench = try Bench(.standalone, keys: #""call_timeout_ms":300"#)
    bench.server.inject(Fault("find", .delay(milliseconds: 2_000), times: 2))
    let read = bench.backend.read(uri)
    #expect(read.code == BP_UNAVAILABLE && read.isRetryable, "\(read)")
    bench.server.inject(Fault("update", .delay(milliseconds: 1_500)))
    let write = bench.backend.put(uri, "1")
    #expect(write.code == BP_UNAVAILABLE && write.message.contains("not known whether"), "\(write)")
    #expect(bench.backend.put(uri, "2").code == BP_OK)
  }

  @Test func aStoppedServerMakesItUnhealthyAndItsReturnHealthy() throws {
    let bench = try Bench(options: "serverSelectionTimeoutMS=200")
    #expect(bench.backend.put(uri, "1").code == BP_OK)
    bench.server.stop()
    // Nobody asks: the driver's own threads see it.
    #expect(bench.backend.waitForHealth(BP_HEALTH_UNHEALTHY))
    let write = bench.backend.put(uri, "2")
    #expect(write.code == BP_UNAVAILABLE && write.isRetryable && write.message.contains("no server"), "\(write)")
    #expect(bench.backend.read(uri).code == BP_UNAVAILABLE)
    #expect(bench.backend.page("").code == BP_UNAVAILABLE)
    bench.server.start()
    #expect(bench.backend.waitForHealth(BP_HEALTH_HEALTHY))
    #expect(bench.backend.text(uri) == "1")
    #expect(bench.backend.put(uri, "3").code == BP_OK)
  }

  /// Requests wait or fail, nothing that was acknowledged is lost, and it goes on by itself.
  @Test(arguments: [Persona.replicaSet(name: "rs0"), .standalone])
  func restartsUnderLoadLoseNothing(_ persona: Persona) throws {
    let bench = try Bench(persona)
    let isOver = Atomic<Bool>(false)
    let acknowledged = Mutex<[String: UInt64]>([:])
    let stamps = Stamps(1)
    let failures = Mutex<[Answer]>([])
    Threads.run(5) { thread in
      if thread == 4 {
        for round in 0..<4 {
          let before = acknowledged.withLock { $0.count }
          #expect(wait { acknowledged.withLock { $0.count } >= before + 50 })
          if round % 2 == 0 { bench.server.dropConnections() } else { bench.server.stop() }
          if round % 2 == 1 {
            usleep(100_000)
            bench.server.start()
          }
        }
        isOver.store(true, ordering: .releasing)
        return
      }
      var round = 0
      while !isOver.load(ordering: .acquiring) {
        round += 1
        let version = stamps.next()
        let name = "mutable://open/\(thread)/\(round)"
        var ops = [Op.put(name, Array("\(version)".utf8))]
        if persona != .standalone, round % 3 == 0 { ops.append(.put("\(name)/b", Array("\(version)".utf8))) }
        let answer = bench.backend.apply(ops, version: version)
        if answer.code == BP_OK {
          acknowledged.withLock { all in for op in ops { all[op.uri] = version } }
        } else {
          failures.withLock { $0.append(answer) }
        }
      }
    }
    for answer in failures.withLock({ $0 }) {
      #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable, "\(answer)")
    }
    let kept = acknowledged.withLock { $0 }
    #expect(kept.count >= 200)
    #expect(bench.backend.put(uri, "1").code == BP_OK)
    for (name, version) in kept { #expect(bench.backend.text(name) == "\(version)") }
    // Each pair is whole.
    let all = Set(bench.backend.scan(""))
    for name in all where name.hasSuffix("/b") { #expect(all.contains(String(name.dropLast(2)))) }
  }
}
