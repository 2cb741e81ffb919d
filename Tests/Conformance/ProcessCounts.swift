import Foundation

/// What the process holds of what plugins leak.
struct ProcessCounts: Sendable {
  var threads: Int
  var descriptors: Int

  static func now() -> ProcessCounts {
    func entries(_ path: String) -> Int { (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? 0 }
    return ProcessCounts(threads: entries("/proc/self/task"), descriptors: entries("/proc/self/fd"))
  }

  /// What `now` has more of than `self`, when it is at least `count` of something: the runtime's own pool and timers may
  /// come and go by a few. Threads that were told to end get three seconds to be gone.
  func growth(ofAtLeast count: Int) async -> String? {
    for _ in 0..<60 {
      if grown(ofAtLeast: count) == nil { return nil }
      // There is no event to await: the system does not tell when a thread has left /proc.
      try? await Task.sleep(for: .milliseconds(50))
    }
    return grown(ofAtLeast: count)
  }

  private func grown(ofAtLeast count: Int) -> String? {
    let now = ProcessCounts.now()
    var grown: [String] = []
    if now.threads - threads >= count { grown.append("threads went from \(threads) to \(now.threads)") }
    if now.descriptors - descriptors >= count {
      grown.append("descriptors went from \(descriptors) to \(now.descriptors)")
    }
    return grown.isEmpty ? nil : grown.joined(separator: " and ")
  }
}
