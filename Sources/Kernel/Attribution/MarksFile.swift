import BackplaneABI
import Foundation
import SystemShims

/// The file that the marks of a run lie in: `marks/<process>-<time>` in the state directory, locked for as long as its
/// process lives, so that a successor that starts beside it leaves it alone.
final class MarksFile: Sendable {
  /// How the run before this one ended.
  enum PreviousRun: Equatable, Sendable {
    /// There was none, or it was shut down in order.
    case orderly
    /// Killed, or the machine went down: nobody is to blame.
    case killed
    case crashed(CrashReport)
    /// Not a file of ours, or not a whole one.
    case unreadable(String)
  }

  /// What the last crash left, kept for whoever wants to look closer.
  static let lastName = "last"

  private let path: String
  /// Holds the lock.
  let descriptor: Int32

  private init(path: String, descriptor: Int32) {
    self.path = path
    self.descriptor = descriptor
  }

  /// Reads what earlier runs left and begins this run's file. Nil when it cannot be made: then a crash leaves no trace,
  /// which `problem` says.
  static func begin(stateDirectory: String) -> (file: MarksFile?, previous: [PreviousRun], problem: String?) {
    let directory = stateDirectory + "/marks"
    mkdir(directory, 0o700)
    let previous = readAll(directory)
    let path = "\(directory)/\(getpid())-\(Clock.wallMs())"
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    let layout = bp_marks_call_layout(
      trace_id_high: UInt32(MemoryLayout<bp_call>.offset(of: \.trace_id_high)!),
      trace_id_low: UInt32(MemoryLayout<bp_call>.offset(of: \.trace_id_low)!),
      peer: UInt32(MemoryLayout<bp_call>.offset(of: \.peer)!))
    guard descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0, bp_marks_open(descriptor, layout) == 0 else {
      let problem = "\(path): \(Wording.system(errno)); a crash will not be attributed to a plugin"
      if descriptor >= 0 {
        close(descriptor)
        unlink(path)
      }
      return (nil, previous, problem)
    }
    OwnDescriptors.shared.add(descriptor, "the file of the marks")
    bp_marks_note_images()
    bp_marks_watch_signals()
    return (MarksFile(path: path, descriptor: descriptor), previous, nil)
  }

  /// The process ends in order: nothing is left to be read.
  func end() {
    bp_marks_header().pointee.state = UInt32(BP_MARKS_CLEAN)
    unlink(path)
    OwnDescriptors.shared.remove(descriptor)
    close(descriptor)
  }

  private static func readAll(_ directory: String) -> [PreviousRun] {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted()
    return names.filter { $0 != lastName }.compactMap { name in
      let path = "\(directory)/\(name)"
      let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
      guard descriptor >= 0 else {
        unlink(path)
        return .unreadable("\(path): \(Wording.system(errno))")
      }
      defer { close(descriptor) }
      // Whoever holds the lock lives: a predecessor that still drains.
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { return nil }
      let run = read(descriptor, path)
      if case .crashed = run { rename(path, "\(directory)/\(lastName)") } else { unlink(path) }
      return run
    }
  }

  private static func read(_ descriptor: Int32, _ path: String) -> PreviousRun {
    let size = Int(BP_MARKS_SIZE_BYTES)
    var facts = stat()
    guard fstat(descriptor, &facts) == 0, Int(facts.st_size) == size else {
      return .unreadable("\(path) is not as large as a marks file")
    }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
    defer { bytes.deallocate() }
    var filled = 0
    while filled < size {
      let count = pread(descriptor, bytes.baseAddress! + filled, size - filled, off_t(filled))
      guard count > 0 else { return .unreadable("\(path) cannot be read whole") }
      filled += count
    }
    return interpret(UnsafeRawBufferPointer(bytes), path)
  }

  /// What a whole file says. Separate from reading, for tests.
  static func interpret(_ bytes: UnsafeRawBufferPointer, _ path: String) -> PreviousRun {
    let header = bytes.load(as: bp_marks_header.self)
    guard MarkText.read(header.magic) == "BPMARKS", header.format == UInt32(BP_MARKS_FORMAT),
      Int(header.size_bytes) == bytes.count, bytes.count == Int(BP_MARKS_SIZE_BYTES)
    else { return .unreadable("\(path) is not a marks file of this version") }
    if header.state == UInt32(BP_MARKS_CLEAN) { return .orderly }
    let state = bytes.load(fromByteOffset: Int(BP_MARKS_CRASH_OFFSET), as: UInt32.self)
    if state == UInt32(BP_CRASH_NONE) { return .killed }
    if let report = CrashReport(marks: bytes) { return .crashed(report) }
    return .unreadable("\(path) holds a crash record that is not whole")
  }
}
