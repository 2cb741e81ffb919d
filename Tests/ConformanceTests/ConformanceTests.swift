import Conformance
import Foundation
import PluginAPI
import Testing

/// The suite in this process, on toys that do not crash. Threads and descriptors are not counted: other tests run too.
/// One after the other, because each keeps every core busy and shrinking a trace ends after a time.
@Suite(.serialized) struct ConformanceTests {
  private func run(
    _ entry: UnsafePointer<bp_entry>, _ configuration: String, listens: [String] = [], stateVersion: UInt32? = nil,
    seed: UInt64 = 7, only: [String] = []
  ) async throws -> ConformanceReport {
    let folder = TestFolder()
    let plugin = PluginUnderTest(
      entry: entry, scratchDirectory: folder.path, schemes: ["toy"], listeners: listens, isVolatile: true,
      stateVersion: stateVersion, configuration: configuration)
    let report = await ConformanceSuite(plugin, seed: seed, ownsProcess: false, only: only).run()
    withExtendedLifetime(folder) {}
    return report
  }

  private func failures(_ fault: ToyBackend.Fault, only: [String] = []) async throws -> [String: String] {
    let report = try await run(
      Toys.backend.pointer, #"{"url":"toy://\#(fault.rawValue)"}"#, stateVersion: 1, only: only)
    return Dictionary(uniqueKeysWithValues: report.failures.map { ($0.name, $0.detail) })
  }

  @Test func aGoodBackendPasses() async throws {
    let report = try await run(Toys.backend.pointer, #"{"url":"toy://"}"#, stateVersion: 1)
    #expect(report.failures.isEmpty, "\(report.failures)")
    #expect(report.checks.contains { $0.name == "state.handover" })
    #expect(report.capabilities.contains(Capability("is replaced without loss", "yes, by backplane.state/1, format 1")))
    #expect(report.checks.contains { $0.name == "backend.model" && $0.detail == "1800 steps" })
    #expect(report.capabilities.contains(Capability("apply", "direct")))
    #expect(report.capabilities.contains(Capability("durability at best", "memory")))
    #expect(Set(report.checks.map(\.name)).count == report.checks.count)
  }

  @Test func aGoodSchemaPasses() async throws {
    let report = try await run(Toys.schema.pointer, "{}")
    #expect(report.failures.isEmpty, "\(report.failures)")
    #expect(report.checks.contains { $0.name == "schema.canonical" })
  }

  @Test(arguments: [
    (ToyBackend.Fault.losesOverwrites, "backend.overwrite", "bytes \"1\" instead of"),
    (.ignoresPreconditions, "backend.preconditions", "preconditionFailed(op: 0) is right"),
    (.ignoresPreconditions, "backend.write-once", "64 of 64 concurrent first writes were accepted"),
    (.isNotAtomic, "backend.atomic-units", "found a record; there is none"),
    (.completesTwice, "manners", "completedTwice"),
    (.scansTooMuch, "backend.scan-prefix", "too many"),
    (.scansByOffset, "backend.scan-under-change", "existed throughout and was seen"),
    (.forgetsTimestamps, "backend.stamps", "ts_ms 0 instead of"),
    (.overstatesDurability, "backend.durability", "durability_max is 1"),
    (.foldsCase, "backend.odd-uris", "conformance"),
    (.confusesBatches, "backend.batched-reads", "of 2 reads of one call"),
    (.countsWithoutLast, "backend.query", "a scan gives"),
    (.pagesBackwards, "backend.query", "a scan gives"),
    (.forgetsDeletions, "state.handover", "no record is right"),
    (.losesLateWrites, "state.handover", "the successor has"),
    (.restampsState, "state.handover", "ts_ms"),
    (.takesAnyState, "state.torn", "random bytes were taken for state"),
    (.stopsForExport, "state.handover", "apply failed with code 14"),
    (.stopsForExport, "state.credits", "apply failed with code 14"),
    (.hidesTimesInScans, "backend.list", "sorted by timestamp"),
    (.hidesTimesInScans, "backend.list-model", "Seed 7."),
    (.scansAThousand, "backend.many-records", "items of 1000 records; there are 2000"),
    (.cutsLargeData, "backend.many-keys", "they differ from byte 60000 on"),
    (.refusesLargeDataSilently, "backend.large-data", "does not say the limit: 'too large'"),
    (.acknowledgesEarly, "backend.reads-under-writes", "had been acknowledged before it began"),
  ])
  func aBadBackendFailsTheCheckThatNamesIt(_ fault: ToyBackend.Fault, _ check: String, _ text: String) async throws {
    // These change nothing that another check looks at: everything is run and everything else passes.
    let isAlone = [
      .completesTwice, .overstatesDurability, .scansByOffset, .confusesBatches, .countsWithoutLast,
    ].contains(fault)
    let failures = try await failures(fault, only: isAlone ? [] : [check, "backend.put-and-read"])
    let detail = try #require(failures[check], "failed were \(failures.keys.sorted())")
    #expect(detail.contains(text), "\(detail)")
    if isAlone { #expect(Array(failures.keys) == [check], "\(failures)") }
    #expect(failures["backend.put-and-read"] == nil || fault == .forgetsTimestamps, "\(failures)")
  }

  @Test func onlyWhatIsAskedForIsRun() async throws {
    let report = try await run(
      Toys.backend.pointer, #"{"url":"toy://"}"#, stateVersion: 1, only: ["backend.list", "state"])
    #expect(report.checks.map(\.name).filter { !$0.hasPrefix("state.") } == ["backend.list"])
    #expect(report.checks.contains { $0.name == "state.handover" })
    #expect(report.failures.isEmpty && !report.capabilities.isEmpty)
  }

  @Test func aStateVersionThatTheManifestDoesNotSayFails() async throws {
    for version in [nil, 2] as [UInt32?] {
      let report = try await run(
        Toys.backend.pointer, #"{"url":"toy://"}"#, stateVersion: version, only: ["state", "life-cycle"])
      #expect(report.failures.map(\.name) == ["state.table"], "\(report.failures)")
    }
    let report = try await run(Toys.careless.pointer, "{}", stateVersion: 1, only: ["state"])
    #expect(report.failures.contains { $0.name == "state.table" }, "\(report.failures)")
    let remark = report.capabilities.first { $0.name == "is replaced without loss" }
    #expect(remark?.value.hasPrefix("no: ") == true)
  }

  @Test func theModelFindsWhatNoTraceNamesAndShrinksIt() async throws {
    let failures = try await failures(.losesTheSeventh, only: ["backend.model"])
    let detail = try #require(failures["backend.model"])
    #expect(detail.contains("Seed 7."))
    // Eight puts of one record and a read: seven overwrites, and the look at the seventh. Nothing smaller fails.
    let smallest = try #require(detail.firstMatch(of: /smallest failing trace \((\d+) of 300 steps\)/)?.1)
    #expect(try #require(Int(smallest)) <= 12, "\(detail)")
    let again = try await self.failures(.losesTheSeventh, only: ["backend.model"])
    #expect(again["backend.model"] == detail)
  }

  @Test func racesAreFound() async throws {
    let failures = try await failures(
      .losesRaces, only: ["backend.write-once", "backend.threads", "backend.model"])
    #expect(!Set(failures.keys).isDisjoint(with: ["backend.write-once", "backend.threads"]), "\(failures.keys)")
    #expect(failures["backend.model"] == nil)
  }

  @Test func aConfigurationThatTakesAnythingFails() async throws {
    let report = try await run(Toys.careless.pointer, "{}", only: ["configure", "life-cycle"])
    #expect(report.failures.map(\.name) == ["configure.unknown-key"])
    #expect(report.failures.first?.detail.contains("conformance_unknown_key was accepted") == true)
  }

  @Test func aConfigurationThatIsRefusedEndsTheSuite() async throws {
    let report = try await run(Toys.backend.pointer, #"{"url":"http://"}"#)
    #expect(report.failures.map(\.name) == ["configure.accepts"])
    #expect(report.failures.first?.detail.contains("/url") == true)
    #expect(!report.checks.contains { $0.name.hasPrefix("backend.") })
  }

  @Test(arguments: [
    (ToySchema.Fault.refusesSilently, "schema.judge", "without a text"),
    (.turnsInCircles, "schema.canonical", "has another one"),
    (.namesBadPrograms, "schema.programs", "'Mutable:open' is no program"),
  ])
  func aBadSchemaFailsTheCheckThatNamesIt(_ fault: ToySchema.Fault, _ check: String, _ text: String) async throws {
    let report = try await run(Toys.schema.pointer, #"{"fault":"\#(fault.rawValue)"}"#)
    let failure = try #require(report.failures.first { $0.name == check }, "\(report.failures)")
    #expect(failure.detail.contains(text), "\(failure.detail)")
  }
}
