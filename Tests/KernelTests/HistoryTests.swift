import Foundation
import Glibc
import Testing

@testable import Kernel

@Suite struct HistoryTests {
  private let folder: TemporaryDirectory
  private var path: String { folder.file("history.jsonl") }

  init() throws { folder = try TemporaryDirectory() }

  private func receipt(_ id: UInt64) -> Receipt {
    Receipt(
      id: id, trigger: "control — \u{1F50C}", outcome: .unchanged, at: "2026-01-01T00:00:00Z", durationMs: 1,
      generationBefore: 1, generation: 1, changes: [], refusals: [], notes: [], phases: [])
  }

  private func ids(limit: Int = 100) -> [UInt64] {
    History(stateDirectory: folder.path, limit: limit).receipts(last: limit).map(\.id)
  }

  /// Wherever a crash cut the last line off, what was whole before is kept and what comes after is whole again.
  @Test func aTornLastLineSpoilsNothing() throws {
    let first = History(stateDirectory: folder.path, limit: 100)
    #expect(first.add(receipt(1)) == nil && first.add(receipt(2)) == nil)
    let whole = try readFile(path)
    #expect(first.add(receipt(3)) == nil)
    let third = try readFile(path)[whole.count...]
    for cut in 0..<third.count {
      writeFile(path, whole + third.prefix(cut))
      let history = History(stateDirectory: folder.path, limit: 100)
      #expect(history.nextID == 3)
      #expect(history.add(receipt(3)) == nil)
      #expect(ids() == [1, 2, 3])
    }
    // Nor what a power cut leaves where a line was to be.
    writeFile(path, whole + [UInt8](repeating: 0, count: 300))
    #expect(ids() == [1, 2])
    #expect(try readFile(path) == whole)
    // A line in the middle that is none is passed over.
    writeFile(path, whole + Array("{\n".utf8) + third)
    #expect(ids() == [1, 2, 3])
  }
}
