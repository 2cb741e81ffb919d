import Glibc

/// SplitMix64: the same numbers for the same seed.
public struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  public init(seed: UInt64) { state = seed }
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// Threads of a test's own: the shared pool has as many as there are cores, which is too few to contend.
public enum Threads {
  private final class Work {
    let body: @Sendable (Int) -> Void
    let index: Int
    init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) {
      self.index = index
      self.body = body
    }
  }

  /// Runs `body` on `count` threads at once and waits for all of them.
  public static func run(_ count: Int, _ body: @Sendable (Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      var threads: [pthread_t] = []
      for index in 0..<count {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(Work(index, body)).toOpaque()
        let error = pthread_create(
          &thread, nil,
          { context in
            let work = Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
            work.body(work.index)
            return nil
          }, context)
        precondition(error == 0, "a thread could not be made")
        threads.append(thread)
      }
      for thread in threads { pthread_join(thread, nil) }
    }
  }
}

/// A new directory, removed with everything in it when the object goes.
public final class ScratchDirectory: Sendable {
  public let path: String

  public init() {
    var template = Array("\(getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp")/backplane-test-XXXXXX".utf8CString)
    precondition(mkdtemp(&template) != nil, "no temporary directory could be made")
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { Self.removeAll(path) }

  private static func removeAll(_ path: String) {
    if let directory = opendir(path) {
      while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { raw in
          String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { removeAll("\(path)/\(name)") }
      }
      closedir(directory)
    }
    remove(path)
  }
}
