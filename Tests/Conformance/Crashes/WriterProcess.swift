import Foundation
import Glibc

/// A process that serves the backend, as its parent sees it.
enum WriterProcess {
  struct Ending: Sendable {
    var lines: [CrashLine]
    /// The signal that ended it; 0: it ended by itself.
    var signal: Int32
  }

  /// Starts the process and reads its lines until it ends. It is killed when `isEnough` says so of a line. The thread
  /// that starts it stays until it has ended: the child dies with that thread.
  static func run(
    _ command: CrashCommand, isEnough: @escaping @Sendable (CrashLine) -> Bool = { _ in false }
  ) async throws -> Ending {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try runToEnd(command, isEnough) }) }
    }
  }

  private static func runToEnd(_ command: CrashCommand, _ isEnough: (CrashLine) -> Bool) throws -> Ending {
    let (input, output) = (try Ends(), try Ends())
    defer { output.close() }
    let child = try spawn(command, input: input.reading, output: output.writing)
    output.closeWriting()
    write(command.input, to: input)
    input.close()
    var lines: [CrashLine] = []
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    var isKilled = false
    while true {
      let count = read(output.reading, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      text += buffer[..<count]
      while let end = text.firstIndex(of: 0x0a) {
        if let line = try? JSONDecoder().decode(CrashLine.self, from: Data(text[..<end])) {
          lines.append(line)
          if !isKilled, isEnough(line) {
            kill(child, SIGKILL)
            isKilled = true
          }
        }
        text.removeSubrange(...end)
      }
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return Ending(lines: lines, signal: status & 0x7f)
  }

  private static func spawn(_ command: CrashCommand, input: Int32, output: Int32) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input, 0)
    posix_spawn_file_actions_adddup2(&actions, output, 1)
    let words = ([command.executable] + command.arguments).map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var child = pid_t()
    let code = posix_spawn(&child, command.executable, &actions, nil, words, environ)
    guard code == 0 else {
      throw Problem("\(command.executable) could not be started: \(String(cString: strerror(code)))")
    }
    return child
  }

  private static func write(_ bytes: [UInt8], to ends: Ends) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(ends.writing, $0.baseAddress, $0.count) }
      if count <= 0 { return }
      rest = rest.dropFirst(count)
    }
  }

  static func encoded(_ line: CrashLine) throws -> [UInt8] { Array(try JSONEncoder().encode(line)) }

  static func files(in directory: String) -> [(path: String, size: Int)] {
    guard let names = FileManager.default.enumerator(atPath: directory) else { return [] }
    return names.compactMap { name in
      let path = "\(directory)/\(name)"
      let attributes = try? FileManager.default.attributesOfItem(atPath: path)
      guard attributes?[.type] as? FileAttributeType == .typeRegular else { return nil }
      return (path, attributes?[.size] as? Int ?? 0)
    }
  }

  /// The two ends of a pipe.
  private final class Ends {
    private(set) var reading: Int32
    private(set) var writing: Int32

    init() throws {
      var ends: [Int32] = [-1, -1]
      guard pipe(&ends) == 0 else { throw Problem("a pipe could not be made: \(String(cString: strerror(errno)))") }
      for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
      (reading, writing) = (ends[0], ends[1])
    }

    func closeWriting() {
      if writing >= 0 { Glibc.close(writing) }
      writing = -1
    }

    func close() {
      closeWriting()
      if reading >= 0 { Glibc.close(reading) }
      reading = -1
    }

    deinit { close() }
  }
}
