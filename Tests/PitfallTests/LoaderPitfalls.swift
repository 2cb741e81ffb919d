import Foundation
import NodeTesting
import Testing

/// Where loaders of other plugin hosts broke; each test quotes what was seen there.
@Suite struct LoaderPitfalls {
  /// "In-place overwrite/truncate of a mapped .so → SIGBUS, also at exit": the dropped file is never mapped, only a copy.
  @Test func inPlaceOverwriteOfALoadedFile() throws {
    let toy = try ToyNode()
    #expect(!toy.mappedFiles.contains(toy.file()))
    #expect(truncate(toy.file(), 0) == 0)
    #expect(try toy.servingVersion() == "1.0.0")
    try overwrite(toy.file(), [UInt8](repeating: 0xcc, count: 100_000))
    #expect(try toy.servingVersion() == "1.0.0")
    #expect(try toy.reload().refusals.map(\.code) == ["plugin.not-elf"])
    #expect(try toy.servingVersion() == "1.0.0")
    // What is run at exit lies in the file too.
    #expect(toy.node.stop() == 0)
  }

  /// "Rename-over + dlopen of the same path while open → old handle, old code": each content is opened by its own name.
  @Test func renameOverALoadedFile() throws {
    let toy = try ToyNode()
    let first = try read(toy.file())
    for version in ["2.0.0", "3.0.0"] {
      try toy.drop(Toy(version: version))
      #expect(try toy.reload().changes == ["toy:replaced"])
      #expect(try toy.servingVersion() == version)
    }
    // Back to the first: the code of the first, and no further image.
    let mapped = toy.mappedContents
    try Data(first).write(to: URL(fileURLWithPath: toy.folder.path + "/first.so"))
    try PluginFile.drop(toy.folder.path + "/first.so", into: toy.node.pluginsDirectory, as: Toy.file)
    #expect(try toy.reload().changes == ["toy:replaced"])
    #expect(try toy.servingVersion() == "1.0.0")
    #expect(toy.mappedContents == mapped)
  }

  /// "Different symlinks to one inode → same handle": one file under two names is one image, and each slot that names it
  /// has an instance of its own; when one name comes to mean another file, its slot alone is replaced.
  @Test func sameFileUnderTwoNames() throws {
    let toy = try ToyNode()
    let other = toy.folder.path + "/other"
    try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: other + "/steer", withIntermediateDirectories: true)
    #expect(symlink(toy.file(), "\(other)/link.so") == 0)
    #expect(link(toy.file(), "\(other)/hard.so") == 0)
    func slot(_ name: String, _ order: Int) -> String {
      "  \(name): {kind: backend, order: \(order), plugin_path: \"\(other)/\(name).so\", url: \"toy://\(other)/steer\"}"
    }
    try toy.configure(slots: slot("link", 8) + "\n" + slot("hard", 9))
    let before = toy.mappedContents
    let receipt = try toy.reload()
    #expect(Set(receipt.changes) == ["link:added", "hard:added"], "\(receipt)")
    #expect(toy.mappedContents == before)
    func serving() throws -> [String: String] {
      let slots = try toy.node.ask(["command": "status"])["slots"] as? [[String: Any]] ?? []
      return Dictionary(
        slots.map { ($0["name"] as? String ?? "", $0["version"] as? String ?? "") }, uniquingKeysWith: { $1 })
    }
    try PluginFile.drop(try Toy(version: "2.0.0").build(in: toy.folder), into: other, as: "link.so")
    #expect(try toy.reload().changes == ["link:replaced"])
    #expect(try serving()["link"] == "2.0.0")
    #expect(try serving()["hard"] == "1.0.0" && serving()["toy"] == "1.0.0")
    #expect(toy.mappedContents.count == before.count + 1)
  }

  /// "inode number reused after delete → stale module": content decides, not device and inode.
  @Test func inodeNumberReused() throws {
    let toy = try ToyNode()
    let before = try status(toy.file())
    let new = try read(try Toy(version: "2.0.0").build(in: toy.folder))
    try #require(new.count == Int(before.st_size), "the two versions differ in size too")
    // The same inode, size and time of change, as a reused number would have at worst.
    try overwrite(toy.file(), new)
    var times = [before.st_atim, before.st_mtim]
    #expect(utimensat(AT_FDCWD, toy.file(), &times, 0) == 0)
    let after = try status(toy.file())
    #expect(after.st_ino == before.st_ino && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec)
    #expect(try toy.reload().changes == ["toy:replaced"])
    #expect(try toy.servingVersion() == "2.0.0")
  }

  /// "/proc/self/fd/N reused → old image": every image is opened by a path that says its content and is never reused.
  @Test func descriptorPathReused() throws {
    let toy = try ToyNode()
    for version in ["2.0.0", "3.0.0"] {
      try toy.drop(Toy(version: version))
      #expect(try toy.reload().outcome == "applied")
      #expect(try toy.servingVersion() == version)
    }
    let staging = toy.folder.path + "/data/staging/"
    let staged = toy.mappedFiles.filter { $0.hasPrefix(staging) }
    #expect(staged.count == BuiltProducts.bundled.count - 2 + 3, "\(staged)")
    for path in staged {
      let name = path.dropFirst(staging.count).replacingOccurrences(of: " (deleted)", with: "")
      #expect(name.wholeMatch(of: #/[0-9a-f]{64}\.so/#) != nil, "\(path)")
    }
    #expect(!toy.mappedFiles.contains { $0.contains("memfd:") || $0.hasPrefix("/proc/") })
  }

  /// "STB_GNU_UNIQUE: statics ... are shared across RTLD_LOCAL handles of different plugins": such a file is refused.
  @Test func gnuUniqueStatics() throws {
    let toy = try ToyNode()
    try toy.folder.write(
      """
      __asm__(".data\\n.globl builds_seen\\n.type builds_seen, %gnu_unique_object\\n"
              ".size builds_seen, 4\\nbuilds_seen: .long 1\\n.text");
      """, to: "unique.c")
    try toy.drop(Toy(version: "2.0.0", arguments: [toy.folder.path + "/unique.c"]))
    let refusal = try toy.reload().refusals.first
    #expect(refusal?.code == "plugin.unique-symbols")
    #expect(refusal?.message.contains("builds_seen") == true && refusal?.message.contains("-fno-gnu-unique") == true)
    #expect(try toy.servingVersion() == "1.0.0")
  }

  /// "RTLD_GLOBAL makes unload/replace silently not happen": a symbol of one version never answers for another's.
  @Test func symbolsOfAnEarlierVersion() throws {
    let folder = try TemporaryFolder()
    let trace = Trace(folder)
    func toy(_ version: String) throws -> Toy {
      // Visible and called through the table that the loader binds, so that an earlier one could take its place.
      let source = try trace.constructor(
        "name_of_build()",
        declaring:
          "__attribute__((visibility(\"default\"))) const char *name_of_build(void) { return \"\(version)\"; }",
        in: folder)
      return Toy(version: version, arguments: ["-fsemantic-interposition", "-fno-inline", source])
    }
    let node = try ToyNode(try toy("1.0.0"))
    for version in ["2.0.0", "3.0.0"] {
      try node.drop(try toy(version))
      #expect(try node.reload().outcome == "applied")
    }
    #expect(trace.lines(of: node.node.pid) == ["1.0.0", "2.0.0", "3.0.0"])
  }

  /// "a plugin's private libfoo.so update is ignored until restart": the receipt says so and what to do.
  @Test func sonameOfAPrivateDependency() throws {
    let toy = try ToyNode()
    try toy.folder.write("int ledger_version(void) { return 1; }", to: "ledger.c")
    let folder = toy.folder.path
    let made = try CommandLineTool.run(
      "/usr/bin/cc", ["-shared", "-fPIC", "-Wl,-soname,libledger.so.1", "ledger.c", "-o", "libledger.so.1"], in: folder)
    try #require(made.status == 0, "\(made)")
    try toy.drop(
      Toy(
        version: "2.0.0", arguments: ["-Wl,--no-as-needed", "\(folder)/libledger.so.1", "-Wl,-rpath,\(folder)"]))
    let receipt = try toy.reload()
    #expect(receipt.outcome == "applied", "\(receipt)")
    #expect(
      receipt.notes.contains {
        $0.contains("\"libledger.so.1\"") && $0.contains("takes effect at the next start") && $0.contains("statically")
      }, "\(receipt.notes)")
    // What everybody shares is no news.
    #expect(!receipt.notes.contains { $0.contains("libc.so") || $0.contains("libpthread") })
    let inspected = try toy.node.command(["plugin", "inspect", toy.file()])
    #expect(inspected.output.contains("libledger.so.1"), "\(inspected)")
  }

  /// "Static TLS: ... 2 kB does not [fit]": refused before it is opened, however small, because the block is everybody's.
  @Test func staticThreadLocalStorage() throws {
    let toy = try ToyNode()
    try toy.folder.write(
      "__thread char block[2048];\n__attribute__((visibility(\"default\"))) char *place(void) { return block; }",
      to: "tls.c")
    try toy.drop(
      Toy(version: "2.0.0", arguments: ["-ftls-model=initial-exec", toy.folder.path + "/tls.c"]))
    let refusal = try toy.reload().refusals.first
    #expect(refusal?.code == "plugin.static-tls" && refusal?.stage == "verified")
    #expect(try toy.servingVersion() == "1.0.0")
  }

  /// "dlopen from a noexec mount: failed to map segment"; and "disk full".
  @Test(.enabled(if: Mount.isPossible, "needs root and the right to mount a tmpfs"))
  func stagingOnAFullOrNoexecMount() throws {
    let toy = try ToyNode()
    let staging = toy.folder.path + "/data/staging"
    for (options, code, part) in [
      ("noexec,mode=0700", "staging.noexec", "noexec"), ("size=16k,mode=0700", "staging.full", "is full"),
    ] {
      let mount = try Mount(at: staging, options)
      try toy.drop(Toy(version: "2.0.0"))
      let receipt = try toy.reload()
      #expect(receipt.outcome == "refused" && receipt.generation == receipt.generationBefore)
      let refusal = receipt.refusals.first { $0.code == code }
      #expect(refusal?.message.contains(part) == true, "\(receipt)")
      #expect(refusal?.message.contains("staging_directory") == true, "\(receipt)")
      #expect(try toy.servingVersion() == "1.0.0")
      mount.end()
    }
    #expect(try toy.reload().outcome == "applied")
    #expect(try toy.servingVersion() == "2.0.0")
  }

  /// "Scanning a mixed lib directory ran foreign constructors and corrupted memory": what has no manifest of ours is never
  /// opened, not even by a probe.
  @Test func aDirectoryOfForeignLibraries() throws {
    let toy = try ToyNode()
    let trace = Trace(toy.folder)
    let source = try trace.constructor("\"foreign\"", in: toy.folder)
    let made = try CommandLineTool.run(
      "/usr/bin/cc", ["-shared", "-fPIC", source, "-o", toy.file("libforeign.so")], in: toy.folder.path)
    try #require(made.status == 0, "\(made)")
    let receipt = try toy.reload()
    #expect(receipt.outcome == "unchanged")
    #expect(receipt.notes.contains { $0.contains("libforeign.so") && $0.contains("no manifest") }, "\(receipt.notes)")
    #expect(trace.lines().isEmpty)
  }

  /// "Init called twice when two paths lead to one image": initialisers run once for an image; what runs for each slot is
  /// `create`, which is made for it.
  @Test func initialisersOfOneImageUnderTwoPaths() throws {
    let folder = try TemporaryFolder()
    let trace = Trace(folder)
    let toy = try ToyNode(Toy(arguments: [try trace.constructor("\"ran\"", in: folder)]))
    let other = toy.folder.path + "/other"
    try FileManager.default.createDirectory(atPath: other + "/steer", withIntermediateDirectories: true)
    try PluginFile.drop(toy.file(), into: other, as: "copy.so")
    #expect(symlink("copy.so", "\(other)/link.so") == 0)
    try toy.configure(
      slots: [("copy", 8), ("link", 9)].map { name, order in
        "  \(name): {kind: backend, order: \(order), plugin_path: \"\(other)/\(name).so\", "
          + "url: \"toy://\(other)/steer\"}"
      }.joined(separator: "\n"))
    #expect(Set(try toy.reload().changes) == ["copy:added", "link:added"])
    let started = (try? String(contentsOfFile: other + "/steer/events", encoding: .utf8)) ?? ""
    #expect(started.split(separator: "\n").count { $0 == "1.0.0 start" } == 2)
    #expect(trace.lines(of: toy.node.pid) == ["ran"])
  }

  /// "ld.so runs constructors before you can refuse: verify first": nothing of a refused file has run, in no process.
  @Test func constructorsBeforeTheVerdict() throws {
    let toy = try ToyNode()
    let trace = Trace(toy.folder)
    let source = try trace.constructor("\"ran\"", in: toy.folder)
    try toy.drop(Toy(version: "2.0.0", abiMajor: 7, arguments: [source]))
    #expect(try toy.reload().refusals.map(\.code) == ["plugin.abi-mismatch"])
    try toy.drop(Toy(version: "2.0.0", hasEntry: false, arguments: [source]))
    #expect(try toy.reload().refusals.map(\.code) == ["plugin.symbol-missing"])
    try toy.drop(Toy(version: "2.0.0", arguments: [source]))
    #expect(chmod(toy.file(), 0o666) == 0)
    #expect(try toy.reload().refusals.map(\.code) == ["plugin.unsafe-permissions"])
    #expect(trace.lines().isEmpty)
    #expect(chmod(toy.file(), 0o644) == 0)
    #expect(try toy.reload().outcome == "applied")
    #expect(trace.lines(of: toy.node.pid) == ["ran"])
  }

  /// The file is swapped between probe and load: what was probed is what is loaded, and the other one is the next reload's.
  @Test func fileSwappedBetweenProbeAndLoad() throws {
    let toy = try ToyNode()
    let trace = Trace(toy.folder)
    let folder = toy.folder.path
    // Its constructor keeps the probe busy until it is let go.
    let slow = try trace.constructor(
      "\"2.0.0\"",
      before: """
        close(open("\(folder)/probing", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        for (int turn = 0; turn < 1000 && access("\(folder)/go", F_OK) != 0; turn++) usleep(2000);
        """, in: toy.folder)
    try toy.drop(Toy(version: "2.0.0", arguments: [slow]))
    let receipt = Shared<TestReceipt?>(nil)
    let asking = TestThreads()
    let node = toy.node
    asking.start {
      let made = try? node.reloadDirectly(now: ["*"])
      receipt.with { $0 = made }
    }
    #expect(Polling.until { access("\(folder)/probing", F_OK) == 0 })
    // Both ways: written over where it lies, and renamed over.
    let third = try Toy(version: "3.0.0").build(in: toy.folder)
    try overwrite(toy.file(), try read(third))
    try PluginFile.drop(third, into: toy.node.pluginsDirectory, as: Toy.file)
    try toy.folder.write("", to: "go")
    #expect(asking.join(seconds: 20))
    #expect(receipt.with { $0?.changes } == ["toy:replaced"], "\(String(describing: receipt.with { $0 }))")
    #expect(try toy.servingVersion() == "2.0.0")
    #expect(try toy.reload().changes == ["toy:replaced"])
    #expect(try toy.servingVersion() == "3.0.0")
  }
}

/// A tmpfs that is mounted for the length of a test.
final class Mount {
  private let path: String
  private var isMounted = true

  static let isPossible: Bool = {
    guard geteuid() == 0, let folder = try? TemporaryFolder(), let mount = try? Mount(at: folder.path, "size=16k")
    else {
      return false
    }
    mount.end()
    return true
  }()

  init(at path: String, _ options: String) throws {
    self.path = path
    let (_, errors, status) = try CommandLineTool.run(
      "/bin/mount", ["-t", "tmpfs", "-o", options, "tmpfs", path], in: "/")
    guard status == 0 else { throw NodeProcess.Failed(description: "mount: \(errors)") }
  }

  func end() {
    guard isMounted else { return }
    isMounted = false
    _ = try? CommandLineTool.run("/bin/umount", ["-l", path], in: "/")
  }

  deinit { end() }
}
