import Foundation
import Glibc
import Synchronization
import Testing

@testable import Kernel

@Suite struct StagingTests {
  private let folder: TemporaryDirectory
  private let staging: Staging

  init() throws {
    folder = try TemporaryDirectory()
    staging = Staging(directory: folder.file("state/staged"))
  }

  private func stage(_ path: String, with staging: Staging? = nil) throws(Refusal) -> StagedPlugin {
    try (staging ?? self.staging).stage(try PluginCandidate(path: path))
  }

  private func why(_ path: String, with staging: Staging? = nil) -> Refusal? {
    let error = refusal { () throws(Refusal) in try stage(path, with: staging) }
    if let error { #expect(error.phase == .staged && error.sentence.hasSuffix(".")) }
    return error
  }

  private func stagedNames() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: staging.directory).sorted()
  }

  private func facts(_ path: String) -> stat {
    var facts = stat()
    #expect(stat(path, &facts) == 0)
    return facts
  }

  @Test func copiesUnderTheHashOfTheContent() throws {
    let path = folder.write("abc.so", Array("abc".utf8))
    let staged = try stage(path)
    // FIPS 180-2, appendix B.1.
    #expect(staged.contentHash == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(staged.path == "\(staging.directory)/\(staged.contentHash).so")
    #expect(try readFile(staged.path) == Array("abc".utf8))
    #expect(facts(staged.path).st_mode & 0o7777 == 0o500)
    #expect(facts(staging.directory).st_mode & 0o7777 == 0o700)
    #expect(!staged.wasAlreadyStaged && staged.sizeBytes == 3)
    #expect(try stagedNames() == ["\(staged.contentHash).so"])
  }

  @Test func copiesMoreThanOnePiece() throws {
    let content = (0..<700_001).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let staged = try stage(folder.write("large.so", content))
    #expect(try readFile(staged.path) == content)
    let sum = try run("sha256sum", [staged.path])
    #expect(sum.hasPrefix(staged.contentHash))
  }

  @Test func contentThatIsStagedIsUsedAgain() throws {
    let first = try stage(folder.write("a.so", [1, 2, 3]))
    let inode = facts(first.path).st_ino
    let second = try stage(folder.write("b.so", [1, 2, 3]))
    #expect(second.wasAlreadyStaged && second.path == first.path)
    #expect(facts(first.path).st_ino == inode)
    #expect(try stagedNames().count == 1)
  }

  @Test(arguments: [[9, 9, 9], [1, 2], []] as [[UInt8]])
  func aSpoiltCopyIsReplaced(spoilt: [UInt8]) throws {
    let path = folder.write("a.so", [1, 2, 3])
    let first = try stage(path)
    #expect(unlink(first.path) == 0)
    writeFile(first.path, spoilt, mode: 0o500)
    let second = try stage(path)
    #expect(!second.wasAlreadyStaged)
    #expect(try readFile(second.path) == [1, 2, 3])
  }

  @Test func aLinkInTheStagingDirectoryIsNotFollowed() throws {
    let path = folder.write("a.so", [1, 2, 3])
    let first = try stage(path)
    #expect(unlink(first.path) == 0)
    let elsewhere = folder.write("elsewhere", [1, 2, 3], mode: 0o500)
    #expect(symlink(elsewhere, first.path) == 0)
    _ = try stage(path)
    var link = stat()
    #expect(lstat(first.path, &link) == 0 && link.st_mode & S_IFMT == S_IFREG)
  }

  enum Meddling: CaseIterable { case append, overwrite, truncate, renameOver, remove, touch, swingLink }

  @Test(arguments: Meddling.allCases)
  func aFileThatChangesMeanwhileIsRefused(meddling: Meddling) throws {
    let content = [UInt8](repeating: 7, count: 600_000)
    let target = folder.write("target.so", content)
    let other = folder.write("other.so", content)
    let path = folder.file("x.so")
    #expect(symlink(target, path) == 0)
    let link = folder.file("link")
    #expect(symlink(other, link) == 0)
    let candidate = try PluginCandidate(path: path)
    let done = Once()
    var meddled = staging
    meddled.copyObserver = { _ in
      done.run {
        switch meddling {
        case .append: try! run("sh", ["-c", "echo more >> \(target)"])
        case .overwrite: try! run("dd", ["if=/dev/zero", "of=\(target)", "bs=16", "count=1", "conv=notrunc"])
        case .truncate: #expect(truncate(target, 300_000) == 0)
        case .renameOver: #expect(rename(other, target) == 0)
        case .remove: #expect(unlink(target) == 0)
        case .touch: #expect(utimes(target, nil) == 0)
        case .swingLink: #expect(rename(link, path) == 0)
        }
      }
    }
    let error = refusal { () throws(Refusal) in try meddled.stage(candidate) }
    #expect(error?.code == "plugin.replaced-while-staged")
    #expect(
      error?.sentence
        == "\(path) was replaced while being staged; it will be taken again when it has settled.")
    #expect(try stagedNames().isEmpty)
    // Before the copy begins it is no different.
    if meddling != .remove { #expect(refusal { () throws(Refusal) in try staging.stage(candidate) } == error) }
  }

  @Test func refusesWhatIsTooLarge() throws {
    let small = Staging(directory: staging.directory, pluginSizeBytesMax: 10)
    let error = why(folder.write("x.so", [UInt8](repeating: 1, count: 11)), with: small)
    #expect(error?.code == "plugin.too-large")
    #expect(error?.sentence.contains("11 bytes and at most 10") == true)
    #expect(error?.sentence.contains("plugin_size_bytes_max") == true)
    _ = try stage(folder.write("y.so", [UInt8](repeating: 1, count: 10)), with: small)
  }

  @Test func refusesAStagingDirectoryThatOthersMayWriteTo() throws {
    let open = Staging(directory: folder.makeDirectory("open", mode: 0o777))
    let error = refusal { () throws(Refusal) in try open.prepare() }
    #expect(error?.code == "staging.unsafe" && error?.sentence.contains("mode 777") == true)
    #expect(error?.file == open.directory)
  }

  @Test func refusesAStagingDirectoryThatCannotBe() throws {
    let file = folder.write("file", [])
    let error = refusal { () throws(Refusal) in try Staging(directory: "\(file)/staged").prepare() }
    #expect(error?.code == "staging.failed" && error?.sentence.contains("staging_directory") == true)
  }

  @Test(.enabled(if: geteuid() == 0, "only root can take on the permissions of another"))
  func refusesWhatItMayNotReadOrWrite() throws {
    #expect(chmod(folder.path, 0o755) == 0)
    let unreadable = folder.write("x.so", [1], mode: 0o000)
    let readable = folder.write("y.so", [1])
    try staging.prepare()
    #expect(chmod(folder.file("state"), 0o755) == 0)
    #expect(chmod(staging.directory, 0o755) == 0)
    // The file's own permission is looked at only after those of the directory.
    let closed = asNobody { why(readable) }
    #expect(closed?.code == "staging.forbidden")
    let hidden = asNobody { why(unreadable) }
    #expect(hidden?.code == "plugin.unreadable")
    #expect(hidden?.sentence.contains(unreadable) == true)
    let forbidden = asNobody {
      refusal { () throws(Refusal) in try Staging(directory: folder.file("no/where")).prepare() }
    }
    #expect(forbidden?.code == "staging.forbidden")
  }

  @Test(.enabled(if: Mount.isPossible, "this user cannot mount a tmpfs"))
  func refusesAFilesystemWithoutExecution() throws {
    let mount = try Mount(folder.makeDirectory("noexec"), options: "noexec,mode=0700")
    defer { mount.end() }
    let error = why(folder.write("x.so", [1]), with: Staging(directory: mount.path + "/staged"))
    #expect(error?.code == "staging.noexec")
    #expect(error?.sentence.contains(mount.path) == true && error?.sentence.contains("staging_directory") == true)
  }

  @Test(.enabled(if: Mount.isPossible, "this user cannot mount a tmpfs"))
  func refusesAFullFilesystem() throws {
    let mount = try Mount(folder.makeDirectory("small"), options: "size=64k,mode=0700")
    defer { mount.end() }
    let error = why(folder.write("x.so", [UInt8](repeating: 1, count: 200_000)), with: Staging(directory: mount.path))
    #expect(error?.code == "staging.full")
    #expect(error?.sentence.contains("is full") == true)
    #expect(try FileManager.default.contentsOfDirectory(atPath: mount.path).isEmpty)
    _ = try stage(folder.write("y.so", [1]), with: Staging(directory: mount.path))
  }

  @Test(.enabled(if: Mount.isPossible, "this user cannot mount a tmpfs"))
  func refusesAReadOnlyFilesystem() throws {
    let mount = try Mount(folder.makeDirectory("fixed"), options: "ro,mode=0700")
    defer { mount.end() }
    #expect(why(folder.write("x.so", [1]), with: Staging(directory: mount.path))?.code == "staging.read-only")
    #expect(why(folder.write("x.so", [1]), with: Staging(directory: mount.path + "/new"))?.code == "staging.read-only")
  }

  @Test func removesOldCopiesThatNobodyUses() throws {
    func age(_ path: String) {
      #expect(utimes(path, [timeval(tv_sec: 1, tv_usec: 0), timeval(tv_sec: 1, tv_usec: 0)]) == 0)
    }
    let used = try stage(folder.write("used.so", [1]))
    let unused = try stage(folder.write("unused.so", [2]))
    let again = try stage(folder.write("again.so", [3]))
    let young = try stage(folder.write("young.so", [4]))
    let leftover = staging.directory + "/.abc.part"
    let foreign = staging.directory + "/notes.so"
    for path in [leftover, foreign] { writeFile(path, [5]) }
    for path in [used.path, unused.path, again.path, leftover, foreign] { age(path) }
    #expect(try stage(folder.file("again.so")).wasAlreadyStaged)
    #expect(try staging.removeUnused(keeping: [used.contentHash]) == 2)
    #expect(
      try stagedNames()
        == (["notes.so"] + [used, again, young].map { "\($0.contentHash).so" }).sorted())
  }

  @Test func manyMayStageAtOnce() async throws {
    let path = folder.write("x.so", [UInt8](repeating: 3, count: 500_000))
    let candidate = try PluginCandidate(path: path)
    let staging = staging
    let paths = try await withThrowingTaskGroup(of: String.self) { group in
      for _ in 0..<16 { group.addTask { try staging.stage(candidate).path } }
      return try await group.reduce(into: Set<String>()) { $0.insert($1) }
    }
    #expect(paths.count == 1)
    #expect(try stagedNames().count == 1)
  }

  @Test func leavesNoDescriptorOpen() throws {
    let path = folder.write("x.so", [1, 2, 3])
    let large = folder.write("large.so", [UInt8](repeating: 1, count: 100))
    let small = Staging(directory: staging.directory, pluginSizeBytesMax: 10)
    // Other tests open files meanwhile, so those of this test are told by where they lead.
    for _ in 0..<50 {
      _ = try stage(path)
      _ = why(large, with: small)
    }
    let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")
    }
    #expect(!open.contains { $0.hasPrefix(folder.path) })
  }
}

/// Runs its body the first time only, on whichever thread comes first.
final class Once: Sendable {
  private let isDone = Mutex(false)

  func run(_ body: () -> Void) {
    let isFirst = isDone.withLock { isDone in
      defer { isDone = true }
      return !isDone
    }
    if isFirst { body() }
  }
}

struct Mount {
  let path: String

  static let isPossible: Bool = {
    guard geteuid() == 0, let folder = try? TemporaryDirectory(),
      let mount = try? Mount(folder.path, options: "size=4k")
    else { return false }
    mount.end()
    return true
  }()

  init(_ path: String, options: String) throws {
    try run("mount", ["-t", "tmpfs", "-o", options, "tmpfs", path])
    self.path = path
  }

  func end() { _ = try? run("umount", [path]) }
}
