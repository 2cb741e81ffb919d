import PluginAPI
import PluginTestHost
import Testing

/// One reload: check, self-test, start, hand the state over, publish, quiesce, stop with a call outstanding, destroy.
@Suite(.timeLimit(.minutes(1)))
struct ReloadWalk {
  @Test func oneReload() async throws {
    let entry = try await Toolbox.c("state")
    let old = try TestHost(entry: entry.pointer, slot: "primary")
    try await old.start()
    for number in 1...3 { try await old.apply(.put("a://b/\(number)", [UInt8]("\(number)"))) }

    // A throwaway instance takes the configuration, or does not; the old one never notices.
    #expect(throws: TestHostError.self) {
      try TestHost(entry: entry.pointer, configuration: #"{"refuse": "refuse me"}"#, purpose: .check)
    }
    let checked = try TestHost(entry: entry.pointer, purpose: .check)
    checked.destroy()
    #expect(checked.violations.isEmpty)
    #expect(try await old.read("a://b/1") != nil)

    // Another throwaway proves the image on nothing real.
    let tested = try TestHost(entry: BackendToy.entry.pointer, purpose: .test)
    try await tested.selfTest(scratchDirectory: Toolbox.scratch.path)
    tested.destroy()
    #expect(tested.violations.isEmpty)

    // The successor starts while the old one serves, and takes the snapshot chunk by chunk.
    let new = try TestHost(entry: entry.pointer, slot: "primary")
    try await new.start()
    try await move(BP_STATE_SNAPSHOT, from: old, to: new, expecting: 3)
    // What is written, replaced and deleted between snapshot and fence belongs to the rest.
    try await old.apply(.put("a://b/4", [UInt8]("4")))
    try await old.apply(.put("a://b/1", [UInt8]("again")))
    try await old.apply(.delete("a://b/2"))
    try await move(BP_STATE_REST, from: old, to: new, expecting: 3)
    #expect(try await new.scan().map(\.uri) == ["a://b/1", "a://b/3", "a://b/4"])
    #expect(try await new.read("a://b/1")?.data == [UInt8]("again"))
    #expect(try await new.read("a://b/4")?.data == [UInt8]("4"))

    // The old one goes with a stream that waits for credit: stop must complete it.
    let outstanding = try old.export(phase: BP_STATE_SNAPSHOT, credits: 1)
    var chunks = outstanding.chunks.makeAsyncIterator()
    #expect(await chunks.next() != nil)
    #expect(!outstanding.isCompleted)
    try await old.quiesce()
    try await old.stop()
    #expect(await outstanding.value == BP_UNAVAILABLE)
    old.destroy()
    // Idempotent.
    old.destroy()
    #expect(old.violations.isEmpty)
    try await new.stop()
    new.destroy()
    #expect(new.violations.isEmpty)
  }

  private func move(_ phase: UInt32, from old: TestHost, to new: TestHost, expecting count: Int) async throws {
    let stream = try old.export(phase: phase, credits: 1)
    var sequence: UInt64 = 0
    for await chunk in stream.chunks {
      #expect(try await new.importState(chunk, phase: phase, sequence: sequence, isLast: false) == BP_OK)
      sequence += 1
      stream.grant(1)
    }
    #expect(await stream.value == BP_OK)
    #expect(sequence == UInt64(count))
    // The end is told by an empty last chunk: which chunk is the last is known only when the export has completed.
    #expect(try await new.importState([], phase: phase, sequence: sequence, isLast: true) == BP_OK)
  }

  @Test(arguments: Language.allCases)
  func stopCompletesWhatIsOpen(_ language: Language) async throws {
    let host = try TestHost(
      entry: language == .c ? try await Toolbox.c("llm").pointer : LanguageModelToy.entry.pointer)
    try await host.start()
    let stream = try host.generate(9, credits: 1)
    var chunks = stream.chunks.makeAsyncIterator()
    #expect(await chunks.next() == "1")
    try await host.quiesce()
    try await host.stop()
    #expect(await stream.value.code == BP_CANCELLED)
    #expect(host.violations.isEmpty)
  }
}
