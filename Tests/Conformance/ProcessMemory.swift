import Foundation
import HeapShim

/// What the process holds of memory.
struct ProcessMemory: Sendable {
  /// Handed out by malloc and not given back: to the byte.
  var heapBytes: Int
  /// Resident: what allocators keep for later and mappings count too.
  var residentBytes: Int

  static func now() -> ProcessMemory {
    let pages = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
    let resident = pages.flatMap { $0.count > 1 ? Int($0[1]) : nil } ?? 0
    return ProcessMemory(heapBytes: Int(heap_shim_bytes_in_use()), residentBytes: resident * Int(getpagesize()))
  }
}
