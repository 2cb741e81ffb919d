import BackplaneABI
import Glibc
import Synchronization
import SystemShims
import Testing

@testable import Kernel

/// The marks of threads, and what a file of them says.
struct MarksTests {
  @Test func marksNestAndAreRestored() {
    onThreads(1) { _ in
      let mark = ThreadMark.own
      #expect(mark.pointee.word == 0 && mark.pointee.thread > 0)
      mark.during(.apply, 7, generation: 3, startNs: 5) {
        #expect(mark.pointee.word == UInt64(MarkedCall.apply.rawValue) << 56 | 7)
        #expect(mark.pointee.generation == 3 && mark.pointee.start_ns == 5)
        mark.during(.complete, 9) {
          #expect(mark.pointee.word == UInt64(MarkedCall.complete.rawValue) << 56 | 9)
          #expect(mark.pointee.generation == 0 && mark.pointee.start_ns == 0)
        }
        #expect(mark.pointee.word == UInt64(MarkedCall.apply.rawValue) << 56 | 7)
        #expect(mark.pointee.generation == 3 && mark.pointee.start_ns == 5)
      }
      #expect(mark.pointee.word == 0 && mark.pointee.generation == 0)
    }
  }

  private var taken: Int {
    (0..<Int(BP_MARKS_THREADS_MAX)).count { bp_marks_thread(UInt32($0)).pointee.thread != 0 }
  }

  @Test func threadsBeyondTheEntriesAreCountedAndEntriesComeBack() {
    let before = bp_marks_header().pointee.spilled_threads
    let count = Int(BP_MARKS_THREADS_MAX) + 8
    let arrived = Atomic<Int>(0)
    let gate = Promise<Bool>()
    let threads = (0..<count).compactMap { index in
      Thread.start(name: "crowd") {
        ThreadMark.own.during(.read, 1) {
          ThreadMark.own.nested { #expect(ThreadMark.own.pointee.nesting == 1) }
          arrived.add(1, ordering: .relaxed)
          _ = gate.get()
        }
      }
    }
    #expect(threads.count == count)
    #expect(eventually { arrived.load(ordering: .acquiring) == count })
    #expect(bp_marks_header().pointee.spilled_threads >= before + 8)
    #expect(taken == Int(BP_MARKS_THREADS_MAX))
    gate.set(true)
    for thread in threads { pthread_join(thread, nil) }
    // Of other tests some may have come meanwhile.
    #expect(eventually { taken < Int(BP_MARKS_THREADS_MAX) / 2 })
  }

  /// A file of marks with one instance, one image and one crash in it.
  private final class File {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(BP_MARKS_SIZE_BYTES), alignment: 4096)

    init() {
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
      var header = bytes.load(as: bp_marks_header.self)
      MarkText.write("BPMARKS", to: &header.magic)
      header.format = UInt32(BP_MARKS_FORMAT)
      header.size_bytes = UInt32(BP_MARKS_SIZE_BYTES)
      header.process = 42
      header.state = UInt32(BP_MARKS_RUNNING)
      bytes.storeBytes(of: header, as: type(of: header))
      put(image(0x1000, 0x2000, ""), at: 0)
      put(image(0x5000, 0x6000, "org.example.rogue"), at: 1)
      var instance = bp_mark_instance()
      instance.handle = 0x10003
      instance.generation = 4
      MarkText.write("primary", to: &instance.slot)
      MarkText.write("org.example.ledger", to: &instance.plugin)
      MarkText.write("1.2.3", to: &instance.version)
      MarkText.write("ab12", to: &instance.content)
      bytes.storeBytes(of: instance, toByteOffset: Int(BP_MARKS_INSTANCES_OFFSET) + 264 * 5, as: bp_mark_instance.self)
    }

    deinit { bytes.deallocate() }

    private func image(_ start: UInt64, _ end: UInt64, _ plugin: String) -> bp_mark_image {
      var image = bp_mark_image()
      (image.start, image.end, image.bias) = (start, end, start)
      MarkText.write(plugin, to: &image.plugin)
      MarkText.write(plugin.isEmpty ? "" : "cd34", to: &image.content)
      MarkText.write(plugin.isEmpty ? "/usr/bin/backplane" : "/nowhere/cd34.so", to: &image.path)
      return image
    }

    private func put(_ image: bp_mark_image, at index: Int) {
      bytes.storeBytes(of: image, toByteOffset: Int(BP_MARKS_IMAGES_OFFSET) + index * 440, as: bp_mark_image.self)
    }

    func crash(word: UInt64, frames: [UInt64], candidates: [UInt64] = []) {
      var crash = bp_crash()
      crash.state = UInt32(BP_CRASH_COMPLETE)
      crash.signal = SIGSEGV
      crash.process = 42
      crash.frames_count = UInt32(frames.count)
      crash.candidates_count = UInt32(candidates.count)
      withUnsafeMutableBytes(of: &crash.frames) { $0.copyBytes(from: frames.withUnsafeBytes { Array($0) }) }
      withUnsafeMutableBytes(of: &crash.candidates) { $0.copyBytes(from: candidates.withUnsafeBytes { Array($0) }) }
      crash.mark.word = word
      MarkText.write("192.0.2.7:50212", to: &crash.peer)
      crash.trace_id_high = 1
      crash.checksum = bp_crash_checksum(&crash)
      bytes.storeBytes(of: crash, toByteOffset: Int(BP_MARKS_CRASH_OFFSET), as: bp_crash.self)
    }

    var says: MarksFile.PreviousRun { MarksFile.interpret(UnsafeRawBufferPointer(bytes), "marks") }

    var report: CrashReport? { if case .crashed(let report) = says { report } else { nil } }
  }

  private let marked = UInt64(MarkedCall.judge.rawValue) << 56 | 0x10003

  @Test func aRunWithoutACrashWasKilledOrOrderly() {
    let file = File()
    #expect(file.says == .killed)
    file.bytes.storeBytes(
      of: UInt32(BP_MARKS_CLEAN), toByteOffset: MemoryLayout<bp_marks_header>.offset(of: \.state)!, as: UInt32.self)
    #expect(file.says == .orderly)
  }

  @Test func aMarkNamesPluginSlotAndCall() throws {
    let file = File()
    // The code that ran was the system's.
    file.crash(word: marked, frames: [0x9000])
    let report = try #require(file.report)
    #expect(report.plugin == "org.example.ledger" && report.version == "1.2.3" && report.slot == "primary")
    #expect(report.call == "judge" && report.generation == 4 && report.signal == "SIGSEGV" && report.content == "ab12")
    #expect(report.peer == "192.0.2.7:50212" && report.trace == "00000000000000010000000000000000")
    #expect(report.sentence.contains("slot 'primary', generation 4, call judge, for 192.0.2.7:50212"))
  }

  @Test func theCodeThatRanIsTheBetterWitness() throws {
    let file = File()
    file.crash(word: marked, frames: [0x5010, 0x1010])
    let report = try #require(file.report)
    #expect(report.plugin == "org.example.rogue" && report.call.isEmpty && report.peer.isEmpty)
    #expect(report.frames.first?.text == "org.example.rogue+0x10")
  }

  @Test func aThreadWithoutAMarkIsNamedByItsCode() throws {
    let file = File()
    file.crash(word: 0, frames: [0x9000, 0x5020])
    #expect(try #require(file.report).plugin == "org.example.rogue")
    // Frames that lead nowhere: what lies on the stack has to do.
    file.crash(word: 0, frames: [0x9000], candidates: [0x5030, 0x1000])
    #expect(try #require(file.report).plugin == "org.example.rogue")
    // In the kernel, whoever had called it.
    file.crash(word: 0, frames: [0x1010, 0x5020])
    #expect(try #require(file.report).plugin == "")
    file.crash(word: 0, frames: [0x9000], candidates: [0x1010, 0x5020])
    #expect(try #require(file.report).plugin == "")
    // An instance that nobody knows is not its neighbour on the stack.
    file.crash(word: marked + 1, frames: [0x9000, 0x5020])
    #expect(try #require(file.report).plugin == "")
  }

  @Test func aTornRecordIsNoCrash() {
    let file = File()
    file.crash(word: marked, frames: [0x9000])
    file.bytes[Int(BP_MARKS_CRASH_OFFSET) + 40] ^= 1
    guard case .unreadable = file.says else { return #expect(Bool(false), "a torn record was believed") }
    file.crash(word: marked, frames: [0x9000])
    file.bytes.storeBytes(of: UInt32(BP_CRASH_WRITING), toByteOffset: Int(BP_MARKS_CRASH_OFFSET), as: UInt32.self)
    guard case .unreadable = file.says else { return #expect(Bool(false), "half a record was believed") }
  }
}
