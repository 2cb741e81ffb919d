import Glibc
import Testing

@testable import Kernel

@Suite struct PluginDirectoriesTests {
  @Test func findsPluginFilesInOrder() throws {
    let folder = try TemporaryDirectory()
    let second = folder.makeDirectory("a-second")
    let first = folder.makeDirectory("b-first")
    for name in ["b.so", "a.so", "Z.so", ".hidden.so", "c.so~", "c.so.tmp", "c.so.part", "notes.txt", ".so", "d.SO"] {
      writeFile("\(first)/\(name)", [1, 2, 3])
    }
    writeFile("\(second)/0.so", [1])
    #expect(mkdir("\(second)/directory.d", 0o755) == 0)
    let found = PluginDirectories([first, second, first]).scan()
    #expect(found.candidates.map(\.path) == ["\(first)/Z.so", "\(first)/a.so", "\(first)/b.so", "\(second)/0.so"])
    #expect(found.candidates.first?.identity.sizeBytes == 3)
    #expect(found.refusals.isEmpty && found.notices.isEmpty)
  }

  @Test func followsSymbolicLinksToFilesAlone() throws {
    let folder = try TemporaryDirectory()
    let plugins = folder.makeDirectory("plugins")
    // As Kubernetes lays out a volume: x.so -> ..data/x.so, ..data -> ..2026.
    #expect(mkdir("\(plugins)/..2026", 0o755) == 0)
    writeFile("\(plugins)/..2026/x.so", [1])
    #expect(symlink("..2026", "\(plugins)/..data") == 0)
    #expect(symlink("..data/x.so", "\(plugins)/x.so") == 0)
    #expect(symlink("nowhere", "\(plugins)/dangling.so") == 0)
    #expect(symlink("loop.so", "\(plugins)/loop.so") == 0)
    #expect(symlink(folder.path, "\(plugins)/folder.so") == 0)
    #expect(mkfifo("\(plugins)/pipe.so", 0o600) == 0)
    let found = PluginDirectories([plugins]).scan()
    #expect(found.candidates.map(\.path) == ["\(plugins)/x.so"])
    #expect(found.candidates.first?.realPath == "\(plugins)/..2026/x.so")
    #expect(
      found.refusals.map(\.code) == [
        "plugin.unreadable", "plugin.not-regular-file", "plugin.unreadable", "plugin.not-regular-file",
      ])
    #expect(found.refusals.first?.sentence.contains("points at nothing") == true)
    #expect(found.refusals.allSatisfy { $0.phase == .seen && $0.sentence.contains($0.file) })
  }

  @Test func anUnreadableDirectoryLeavesTheOthers() throws {
    let folder = try TemporaryDirectory()
    let good = folder.makeDirectory("good")
    writeFile("\(good)/x.so", [1])
    let file = folder.write("file", [1])
    let found = PluginDirectories([file, folder.file("absent"), good]).scan()
    #expect(found.candidates.map(\.path) == ["\(good)/x.so"])
    #expect(found.refusals.map(\.code) == ["directory.unreadable"])
    #expect(found.refusals.first?.file == file && found.refusals.first?.sentence.contains(file) == true)
    #expect(found.notices.count == 1 && found.notices[0].contains(folder.file("absent")))
  }

  @Test func aForbiddenDirectoryIsNamed() throws {
    let folder = try TemporaryDirectory()
    let closed = folder.makeDirectory("closed", mode: 0o000)
    #expect(chmod(folder.path, 0o755) == 0)
    let found = asNobody { PluginDirectories([closed]).scan() }
    #expect(found.refusals.map(\.code) == ["directory.unreadable"])
    #expect(found.refusals.first?.sentence.contains("Permission denied") == true)
  }

  @Test func isBounded() throws {
    let folder = try TemporaryDirectory()
    for index in 0..<5 { folder.write("\(index).so", [1]) }
    let found = PluginDirectories([folder.path], filesMax: 3).scan()
    #expect(found.candidates.count == 3)
    #expect(found.refusals.map(\.code) == ["directory.too-full"])
    #expect(found.refusals.first?.sentence.contains("5 .so files and at most 3") == true)
  }

  @Test func laterDirectoriesWinAndSaySo() throws {
    func plugin(_ path: String, _ id: String, _ version: String) throws -> VerifiedPlugin {
      let manifest = try Manifest.parse(Array(TinyPlugin.manifest(id: id, version: version).utf8), file: path)
      return VerifiedPlugin(
        manifest: manifest, contentHash: path, stagedPath: "/staged\(path)", sourcePath: path, neededLibraries: [],
        warnings: [])
    }
    let (plugins, notices) = PluginDirectories.winners(among: [
      try plugin("/usr/a.so", "org.a", "2.0.0"), try plugin("/usr/b.so", "org.b", "1.0.0"),
      try plugin("/etc/zz.so", "org.a", "1.0.0"),
    ])
    #expect(plugins.map(\.sourcePath) == ["/usr/b.so", "/etc/zz.so"])
    #expect(notices.count == 1)
    #expect(notices.first?.hasPrefix("/etc/zz.so (1.0.0) takes the place of /usr/a.so (2.0.0)") == true)
  }
}

/// Swift's Glibc module does not have it; the C declaration is `int setfsuid(uid_t)`.
@_silgen_name("setfsuid") private func setfsuid(_ user: uid_t) -> Int32

/// Runs the body with the file permissions of nobody. The system keeps these per thread, and the body cannot suspend.
func asNobody<Value>(_ body: () throws -> Value) rethrows -> Value {
  let previous = setfsuid(65_534)
  defer { _ = setfsuid(uid_t(previous)) }
  return try body()
}
