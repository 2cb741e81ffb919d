import Dispatch
import Glibc
import Synchronization
import Testing

@testable import Kernel

@Suite(.timeLimit(.minutes(1))) struct DirectoryWatchTests {
  /// Hints as a stream that a test awaits: no test sleeps.
  private final class Hints: Sendable {
    let watch: DirectoryWatch
    private let stream: AsyncStream<DirectoryWatch.Hint>

    init(_ directories: [String], quietMs: Int = 5) throws {
      let (stream, continuation) = AsyncStream.makeStream(of: DirectoryWatch.Hint.self)
      self.stream = stream
      watch = try DirectoryWatch(directories, quietMs: quietMs) { continuation.yield($0) }
    }

    /// The next hint that names the directory.
    func next(_ directory: String) async -> Bool {
      for await hint in stream where hint.directories.contains(directory) { return true }
      return false
    }

    func next(where isWanted: (DirectoryWatch.Hint) -> Bool) async -> DirectoryWatch.Hint? {
      for await hint in stream where isWanted(hint) { return hint }
      return nil
    }
  }

  @Test func reportsEachKindOfChange() async throws {
    let folder = try TemporaryDirectory()
    let plugins = folder.makeDirectory("plugins")
    let path = "\(plugins)/x.so"
    let hints = try Hints([plugins])
    writeFile(path, [1])
    #expect(await hints.next(plugins))
    #expect(chmod(path, 0o600) == 0)
    #expect(await hints.next(plugins))
    #expect(rename(path, "\(plugins)/y.so") == 0)
    #expect(await hints.next(plugins))
    folder.write("z", [1])
    #expect(rename(folder.file("z"), "\(plugins)/y.so") == 0)
    #expect(await hints.next(plugins))
    let file = open("\(plugins)/y.so", O_WRONLY | O_CLOEXEC)
    #expect(write(file, "more", 4) == 4)
    close(file)
    #expect(await hints.next(plugins))
    #expect(unlink("\(plugins)/y.so") == 0)
    #expect(await hints.next(plugins))
    hints.watch.stop()
  }

  @Test func reportsTheSwingOfALinkInside() async throws {
    let folder = try TemporaryDirectory()
    let plugins = folder.makeDirectory("plugins")
    for name in ["..1", "..2"] {
      #expect(mkdir("\(plugins)/\(name)", 0o755) == 0)
      writeFile("\(plugins)/\(name)/x.so", Array(name.utf8))
    }
    #expect(symlink("..1", "\(plugins)/..data") == 0)
    #expect(symlink("..data/x.so", "\(plugins)/x.so") == 0)
    #expect(symlink("..2", "\(plugins)/..data_tmp") == 0)
    let hints = try Hints([plugins])
    #expect(rename("\(plugins)/..data_tmp", "\(plugins)/..data") == 0)
    #expect(await hints.next(plugins))
    hints.watch.stop()
  }

  @Test func followsADirectoryThatAppearsGoesAndComesBack() async throws {
    let folder = try TemporaryDirectory()
    let outer = folder.file("not")
    let plugins = "\(outer)/yet"
    let hints = try Hints([plugins])
    for _ in 0..<3 {
      #expect(mkdir(outer, 0o755) == 0)
      #expect(await hints.next(plugins))
      #expect(mkdir(plugins, 0o755) == 0)
      #expect(await hints.next(plugins))
      writeFile("\(plugins)/x.so", [1])
      #expect(await hints.next(plugins))
      #expect(rename(outer, folder.file("gone-\(UInt64.random(in: .min ... .max))")) == 0)
      #expect(await hints.next(plugins))
    }
    hints.watch.stop()
  }

  @Test func followsALinkOnTheWay() async throws {
    let folder = try TemporaryDirectory()
    for release in ["one", "two"] {
      _ = folder.makeDirectory(release)
      _ = folder.makeDirectory("\(release)/plugins")
    }
    let current = folder.file("current")
    #expect(symlink("one", current) == 0)
    #expect(symlink("two", folder.file("next")) == 0)
    let plugins = "\(current)/plugins"
    let hints = try Hints([plugins])
    writeFile(folder.file("one/plugins/x.so"), [1])
    #expect(await hints.next(plugins))
    #expect(rename(folder.file("next"), current) == 0)
    #expect(await hints.next(plugins))
    writeFile(folder.file("two/plugins/x.so"), [1])
    #expect(await hints.next(plugins))
    hints.watch.stop()
  }

  @Test func tellsDirectoriesApart() async throws {
    let folder = try TemporaryDirectory()
    let first = folder.makeDirectory("first")
    let second = folder.makeDirectory("second")
    let hints = try Hints([first, second])
    writeFile("\(second)/x.so", [1])
    let hint = await hints.next { !$0.directories.isEmpty }
    #expect(hint?.directories == [second])
    #expect(hint?.isRescan == false && hint?.problems.isEmpty == true)
    hints.watch.stop()
  }

  @Test func aBurstIsOneHint() async throws {
    let folder = try TemporaryDirectory()
    let plugins = folder.makeDirectory("plugins")
    let count = Mutex(0)
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    let watch = try DirectoryWatch([plugins], quietMs: 1_000, burstMs: 300) { _ in
      count.withLock { $0 += 1 }
      continuation.yield()
    }
    // Fewer events than the queue holds, all made long before the burst can end.
    for index in 0..<200 { writeFile("\(plugins)/\(index).so", [1]) }
    for await _ in stream { break }
    #expect(count.withLock { $0 } <= 2)
    watch.stop()
  }

  @Test func lostEventsAskForARescan() async throws {
    let folder = try TemporaryDirectory()
    let plugins = folder.makeDirectory("plugins")
    let (stream, continuation) = AsyncStream.makeStream(of: DirectoryWatch.Hint.self)
    let gate = Gate()
    let watch = try DirectoryWatch([plugins], quietMs: 0) { hint in
      continuation.yield(hint)
      gate.pass()
    }
    writeFile("\(plugins)/first.so", [1])
    // The watch now stands in its callback and reads nothing. Two alternating files, since equal neighbours are merged.
    gate.waitForArrival()
    let a = "\(plugins)/a"
    let b = "\(plugins)/b"
    writeFile(a, [])
    writeFile(b, [])
    for _ in 0..<12_000 {
      utimes(a, nil)
      utimes(b, nil)
    }
    gate.open()
    var isRescan = false
    for await hint in stream {
      isRescan = hint.isRescan
      if isRescan { break }
    }
    #expect(isRescan)
    watch.stop()
  }

  @Test func somethingElseInItsPlaceIsNamed() async throws {
    let folder = try TemporaryDirectory()
    let file = folder.write("plugins", [1])
    let hints = try Hints([file])
    let hint = await hints.next { !$0.problems.isEmpty }
    #expect(hint?.problems.map(\.code) == ["directory.unwatched"])
    #expect(hint?.problems.first?.sentence.contains(file) == true)
    // Put right, it is watched.
    #expect(unlink(file) == 0)
    #expect(mkdir(file, 0o755) == 0)
    #expect(await hints.next(file))
    writeFile("\(file)/x.so", [1])
    #expect(await hints.next(file))
    hints.watch.stop()
  }

  @Test func stopsFromAnywhere() async throws {
    let folder = try TemporaryDirectory()
    let plugins = folder.makeDirectory("plugins")
    let box = Mutex<DirectoryWatch?>(nil)
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    let watch = try DirectoryWatch([plugins], quietMs: 0) { _ in
      box.withLock { $0 }?.stop()
      continuation.yield()
    }
    box.withLock { $0 = watch }
    writeFile("\(plugins)/x.so", [1])
    for await _ in stream { break }
    watch.stop()
    watch.stop()
    box.withLock { $0 = nil }
  }

  @Test func manyWatchesLeaveNothingBehind() throws {
    let folder = try TemporaryDirectory()
    // More than the default of 128 instances a user: it fails if any is left open.
    for _ in 0..<300 {
      let watch = try DirectoryWatch([folder.path]) { _ in }
      watch.stop()
    }
    for _ in 0..<300 { _ = try DirectoryWatch([folder.path]) { _ in } }
  }
}

/// Holds the first thread that passes until it is opened.
private final class Gate: Sendable {
  private let arrived = DispatchSemaphore(value: 0)
  private let opened = DispatchSemaphore(value: 0)
  private let isFirst = Mutex(true)

  func pass() {
    let waits = isFirst.withLock { isFirst in
      defer { isFirst = false }
      return isFirst
    }
    guard waits else { return }
    arrived.signal()
    opened.wait()
  }

  func waitForArrival() { arrived.wait() }
  func open() { opened.signal() }
}
