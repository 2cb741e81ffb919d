import Foundation
import Synchronization

/// The receipts, newest last: in memory, and one JSON line each in `history.jsonl` in the state directory.
final class History: Sendable {
  private struct State {
    var receipts: [Receipt]
    var limit: Int
    var linesInFile: Int
  }

  private let path: String
  private let state: Mutex<State>

  init(stateDirectory: String, limit: Int) {
    path = stateDirectory + "/history.jsonl"
    state = Mutex(History.read(path, limit))
  }

  /// Reads the file anew: another kernel has written to it until now.
  func reread() { state.withLock { $0 = History.read(path, $0.limit) } }

  private static func read(_ path: String, _ limit: Int) -> State {
    let bytes = (try? Data(contentsOf: URL(fileURLWithPath: path))) ?? Data()
    let wholeBytes = (bytes.lastIndex(of: UInt8(ascii: "\n")) ?? -1) + 1
    // A crash or a power cut in the middle of a write leaves a piece of a line, which the next would be appended to.
    if wholeBytes < bytes.count { truncate(path, off_t(wholeBytes)) }
    let lines = bytes[..<wholeBytes].split(separator: UInt8(ascii: "\n"))
    let receipts = lines.suffix(limit).compactMap { try? JSONDecoder().decode(Receipt.self, from: Data($0)) }
    return State(receipts: receipts, limit: limit, linesInFile: lines.count)
  }

  var nextID: UInt64 { state.withLock { ($0.receipts.last?.id ?? 0) + 1 } }

  func receipts(last count: Int) -> [Receipt] { state.withLock { Array($0.receipts.suffix(count)) } }

  func setLimit(_ limit: Int) { state.withLock { $0.limit = limit } }

  /// Keeps the receipt. A file that cannot be written costs the record on disk, not the reload; the error is returned.
  func add(_ receipt: Receipt) -> String? {
    state.withLock { state in
      state.receipts.append(receipt)
      if state.receipts.count > state.limit { state.receipts.removeFirst(state.receipts.count - state.limit) }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      do {
        if state.linesInFile >= state.limit * 2 {
          // Rewritten once it holds twice what is kept, so that it stays bounded without a rewrite for each reload.
          let text = try state.receipts.map { String(decoding: try encoder.encode($0), as: UTF8.self) + "\n" }.joined()
          try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
          state.linesInFile = state.receipts.count
        } else {
          var line = try encoder.encode(receipt)
          line.append(0x0a)
          let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
          guard descriptor >= 0 else { return "\(path): \(String(cString: strerror(errno)))" }
          defer { close(descriptor) }
          let end = lseek(descriptor, 0, SEEK_END)
          let count = line.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
          guard count == line.count else {
            let reason = String(cString: strerror(count < 0 ? errno : ENOSPC))
            // Half a line would spoil the next one too.
            if count > 0, end >= 0 { ftruncate(descriptor, end) }
            return "\(path): \(reason)"
          }
          state.linesInFile += 1
        }
        return nil
      } catch {
        return "\(path): \(error)"
      }
    }
  }
}
