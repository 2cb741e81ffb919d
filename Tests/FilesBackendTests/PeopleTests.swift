import BackendTesting
import Foundation
import PluginAPI
import Testing

@testable import FilesBackend

/// What a person does to the directory.
@Suite struct PeopleTests {
  let scratch = ScratchDirectory()
  var folder: Folder { Folder(scratch) }

  @Test func aFileThatIsEditedIsAChangedRecord() throws {
    let backend = try files(scratch)
    #expect(
      backend.apply(
        [.put("mutable://open/a", Array("1".utf8))], timestampMs: KernelStamp.timestampMs,
        version: KernelStamp.version(3)
      ).code == BP_OK)
    #expect(backend.read("mutable://open/a").record?.version == KernelStamp.version(3))
    try folder.write("mutable/open/a.json", "{\"edited\": true}\n")
    folder.setTime("mutable/open/a.json", 1_800_000_000, 5_000_016)
    let record = try #require(backend.read("mutable://open/a").record)
    #expect(record.data == Array("{\"edited\": true}\n".utf8) && record.timestampMs == 1_800_000_000_005)
    #expect(record.version == 1_800_000_000_005 << 20 | 16)
    #expect(backend.apply([.put("mutable://open/a", [1], if: .version(KernelStamp.version(3)))]).failedOp == 0)
    #expect(backend.apply([.put("mutable://open/a", [1], if: .version(record.version))]).code == BP_OK)
    let item = backend.page("mutable://open/").items[0]
    #expect(item.uri == "mutable://open/a" && item.sizeBytes == 1)
  }

  @Test func aFileThatIsPutThereIsARecordAndOneThatIsRemovedIsNot() throws {
    let backend = try files(scratch)
    try folder.write("mutable/open/notes/today.json", "{}")
    try folder.write("mutable/open/photo.jpg", "jpeg")
    try folder.write("mutable/open/README.md", "# hello")
    #expect(backend.read("mutable://open/notes/today").record?.content == .json)
    #expect(backend.read("mutable://open/photo.jpg").record?.data == Array("jpeg".utf8))
    #expect(
      backend.scan("") == ["mutable://open/README.md", "mutable://open/notes/today", "mutable://open/photo.jpg"])
    try folder.remove("mutable/open/notes")
    #expect(backend.read("mutable://open/notes/today").code == BP_NOT_FOUND)
    #expect(backend.scan("mutable://open/notes") == [])
    #expect(backend.apply([.put("mutable://open/notes/today", [1], if: .absent)]).code == BP_OK)
  }

  /// What editors, copying and people leave, and what is no file.
  @Test func theRestIsIgnored() throws {
    let backend = try files(scratch)
    #expect(backend.apply([.put("mutable://open/a", [1])]).code == BP_OK)
    for name in [
      "README.md", "mutable/.a.json.swp", "mutable/open/.a.json.x7Yz", "mutable/open/a.json~", "mutable/open/#a.json#",
      "mutable/open/Makefile", "mutable/open/a b.json", "mutable/open/x=41.json", "mutable/open/logo.png.bytes",
      "mutable/open/v1.2/a.json", "Mutable/open/a.json", "mutable/open/.hidden/a.json", "lost+found/a/b.json",
      "mutable/open/sch\u{f6}n.json", "mutable/open/short=+/a.json",
    ] {
      try folder.write(name, "{}")
    }
    #expect(symlink("a.json", "\(folder.path)/mutable/open/link.json") == 0)
    #expect(mkfifo("\(folder.path)/mutable/open/pipe.json", 0o600) == 0)
    #expect(mkdir("\(folder.path)/mutable/open/directory.json", 0o700) == 0)
    #expect(backend.scan("") == ["mutable://open/a"])
    for name in ["link", "pipe", "directory", "x=41", "x", "logo.png", "v1.2/a"] {
      #expect(backend.read("mutable://open/\(name)").code == BP_NOT_FOUND, "\(name)")
    }
    // A directory is in the way of a record; nothing else is.
    let answer = backend.apply([.put("mutable://open/directory", [1])])
    #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("directory.json"))
    #expect(backend.apply([.put("mutable://open/link", [2]), .put("mutable://open/pipe", [3])]).code == BP_OK)
    #expect(folder.read("mutable/open/a.json") == [1])
    #expect(folder.read("mutable/open/link.json") == [2])
    #expect(backend.health.isEmpty)
  }

  @Test func jsonCountsWhenBothFilesAreThere() throws {
    let backend = try files(scratch)
    try folder.write("mutable/open/a.bytes", "bytes")
    try folder.write("mutable/open/a.json", "1")
    #expect(backend.read("mutable://open/a").record?.content == .json)
    #expect(backend.scan("") == ["mutable://open/a"])
    let answer = backend.apply(
      [.put("mutable://open/a", [9], .bytes)], timestampMs: KernelStamp.timestampMs, version: KernelStamp.version())
    #expect(answer.code == BP_OK)
    #expect(folder.names == ["mutable/open/a.bytes"])
    try folder.write("mutable/open/a.json", "1")
    #expect(backend.apply([.delete("mutable://open/a")]).absentCount == 0)
    #expect(folder.names == [])
  }

  @Test func noLinkIsFollowed() throws {
    let backend = try files(scratch)
    let outside = Folder(scratch, "outside")
    try outside.write("secret.json", "\"secret\"")
    try folder.write("mutable/open/a.json", "1")
    #expect(symlink(outside.path, "\(folder.path)/mutable/open/way") == 0)
    #expect(symlink("\(outside.path)/secret.json", "\(folder.path)/mutable/open/file.json") == 0)
    #expect(symlink("..", "\(folder.path)/mutable/open/up") == 0)
    for name in ["way/secret", "file", "up/open/a"] {
      #expect(backend.read("mutable://open/\(name)").code == BP_NOT_FOUND, "\(name)")
    }
    #expect(backend.scan("") == ["mutable://open/a"])
    #expect(backend.scan("mutable://open/way/") == [])
    let answer = backend.apply([.put("mutable://open/way/secret", [1])])
    #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("mutable/open/way"))
    #expect(answer.message.contains("symbolic link"))
    #expect(backend.apply([.put("mutable://open/file", [1])]).code == BP_OK)
    #expect(outside.read("secret.json") == Array("\"secret\"".utf8))
  }

  /// A copy that another node serves has the same records, to the version: the times of the files carry them.
  @Test(arguments: [["cp", "-a"], ["rsync", "-a"], ["cp", "-r", "--preserve=timestamps"]])
  func aCopyHasTheSameRecords(_ command: [String]) throws {
    let backend = try files(scratch)
    for number in 0..<20 {
      let answer = backend.apply(
        [.put("mutable://open/\(number % 3)/\(number)", Array("\(number)".utf8), number % 2 == 0 ? .json : .bytes)],
        timestampMs: KernelStamp.timestampMs, version: KernelStamp.version(UInt64(number)))
      #expect(answer.code == BP_OK)
    }
    // Stamps that no time of a file can say are in a note, which is copied along.
    for (name, stamp, version) in [("odd", 5, 6), ("far", UInt64.max, .max), ("back", 7, KernelStamp.version(1))] {
      #expect(
        backend.apply([.put("mutable://open/\(name)", [1])], timestampMs: UInt64(stamp), version: version).code == BP_OK
      )
    }
    let items = backend.page("").items
    #expect(items.count == 23)
    // While it serves, and all that is there.
    let copied = try Shell.output(command[0], command.dropFirst() + ["\(folder.path)/", "\(scratch.path)/copy"])
    #expect(copied != nil)
    let copy = try files(scratch, #""url":"file://\#(scratch.path)/copy""#)
    #expect(copy.page("").items == items)
    for item in items { #expect(copy.read(item.uri).record == backend.read(item.uri).record) }
  }

  /// A backup without what is hidden is a backup.
  @Test func recordsWithoutTheNodesOwnFilesAreServed() throws {
    try folder.write("mutable/open/a.json", "1")
    let backend = try files(scratch)
    #expect(backend.read("mutable://open/a").record?.data == [0x31])
    #expect(backend.apply([.put("mutable://open/a", [2])]).code == BP_OK)
  }

  @Test func filesAreTheirOwnersUnlessToldOtherwise() throws {
    for (key, file, directory) in [("owner", 0o600, 0o700), ("group", 0o640, 0o750), ("everyone", 0o644, 0o755)] {
      let settings = #""durability":"os","readable_by":"\#(key)","url":"file://\#(scratch.path)/\#(key)""#
      let backend = try files(scratch, settings)
      #expect(backend.apply([.put("a://b/c", [1])]).code == BP_OK)
      let folder = Folder(scratch, key)
      #expect(folder.mode("a/b/c.json") == file)
      #expect(folder.mode("a/b") == directory && folder.mode("a") == directory && folder.mode("") == directory)
      #expect(folder.mode(".backplane") == 0o700)
    }
  }
}
