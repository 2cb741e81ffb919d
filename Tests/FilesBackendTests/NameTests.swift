import BackendTesting
import PluginAPI
import Testing

@testable import FilesBackend

@Suite struct NameTests {
  let scratch = ScratchDirectory()

  @Test(arguments: [
    ("mutable://open/users/alice", Content.json, "mutable/open/users/alice.json"),
    ("mutable://open", .json, "mutable/open.json"),
    ("mutable://open/logo.png", .bytes, "mutable/open/logo.png"),
    ("mutable://open/logo.png", .json, "mutable/open/logo.png.json"),
    ("mutable://open/logo.png/small", .json, "mutable/open/logo.png=/small.json"),
    ("mutable://open/blob", .bytes, "mutable/open/blob.bytes"),
    ("mutable://open/a.json", .json, "mutable/open/a.json.json"),
    ("mutable://open/a.json", .bytes, "mutable/open/a.json.bytes"),
    ("mutable://open/a.bytes", .bytes, "mutable/open/a.bytes.bytes"),
    ("mutable://open/a.", .bytes, "mutable/open/a..bytes"),
    ("mutable://open/a.b~", .bytes, "mutable/open/a.b~.bytes"),
    ("mutable://open/.hidden", .json, "mutable/open/=2Ehidden.json"),
    ("mutable://open/...", .json, "mutable/open/=2E...json"),
    ("mutable://open/a=b", .json, "mutable/open/a=3Db.json"),
    ("mutable://open/a%2Fb%20c", .json, "mutable/open/a%2Fb%20c.json"),
    ("mutable://open/a//b/", .json, "mutable/open/a/=/b/=.json"),
    ("mutable://", .json, "mutable/=.json"),
    ("web+x.y://v1.2/A", .json, "web+x.y=/v1.2=/A.json"),
    ("mutable://open/sch\u{f6}n", .json, "mutable/open/sch=C3=B6n.json"),
  ])
  func aURIHasAName(_ uri: String, _ content: Content, _ name: String) throws {
    let backend = try files(scratch)
    let answer = backend.apply(
      [.put(uri, [0x31], content)], timestampMs: KernelStamp.timestampMs, version: KernelStamp.version())
    #expect(answer.code == BP_OK)
    #expect(Folder(scratch).names == [name])
    #expect(Folder(scratch).read(name) == [0x31])
    #expect(backend.read(uri).record?.content == content)
    #expect(backend.scan("") == [uri])
    #expect(backend.apply([.delete(uri)]).absentCount == 0)
    #expect(Folder(scratch).names == [])
  }

  /// Nothing that can be a URI is taken for another, found under another, or lost.
  @Test func everyURIHasOneNameAndBack() {
    var random = SeededGenerator(seed: 3)
    let alphabet = Array("ab.=~#%/+ \u{0}\u{e9}AZ-_!*\\:".utf8)
    var names: [[UInt8]: [UInt8]] = [:]
    for _ in 0..<1_000 {
      let count = Int.random(in: 0...12, using: &random) * (Int.random(in: 0..<20, using: &random) == 0 ? 60 : 1)
      let uri = Array("a://".utf8) + (0..<count).map { _ in alphabet.randomElement(using: &random)! }
      let path = uri.withUnsafeBufferPointer { RecordPath($0)! }
      for content in [Content.json, .bytes] {
        let name = path.directory + [UInt8(ascii: "/")] + path.file(content)
        #expect(names[name] == nil || names[name] == uri)
        names[name] = uri
        let parts = name.split(separator: UInt8(ascii: "/"))
        #expect(parts.allSatisfy { $0.count <= 206 && $0.first != UInt8(ascii: ".") })
        let read = path.file(content).withUnsafeBufferPointer { RecordName.record(in: $0) }
        #expect(read?.content == content && read?.stemCount == path.stem.count)
      }
      for step in path.steps.dropLast() {
        let read = RecordName.directory(step.stem, isContinuation: step.rank == .continuation)
          .withUnsafeBufferPointer { RecordName.directory(in: $0) }
        #expect(read?.stemCount == step.stem.count && read?.isContinuation == (step.rank == .continuation))
      }
    }
  }

  @Test func longSegmentsAndLongURIsAreKept() throws {
    let backend = try files(scratch)
    let root = "mutable://open/"
    func long(_ unit: String, _ count: Int) -> String { root + String(repeating: unit, count: count) }
    let uris = [
      long("u", 200), long("u", 201), long("u", 199) + "=", long("u", 4_081), long("a/", 2_040) + "b",
      long(".", 4_081), long("=", 4_081), long("v1./", 1_020),
      long("u", 300) + "/" + String(repeating: "v", count: 300), long("u", 300) + "/x", long("u", 300),
    ]
    for (index, uri) in uris.enumerated() {
      #expect(uri.utf8.count <= 4_096)
      #expect(backend.apply([.put(uri, Array("\(index)".utf8), index % 2 == 0 ? .json : .bytes)]).code == BP_OK)
    }
    for (index, uri) in uris.enumerated() { #expect(backend.read(uri).record?.data == Array("\(index)".utf8)) }
    #expect(backend.scan("", limit: 3).sorted() == uris.sorted())
    // Prefixes that end within a piece, at its end and behind it.
    for prefix in Set([100, 214, 215, 216, 4_000].flatMap { length in uris.map { String($0.prefix(length)) } }) {
      #expect(backend.scan(prefix).sorted() == uris.filter { $0.hasPrefix(prefix) }.sorted())
    }
    let tooLong = backend.apply([.put(long("u", 4_082), [1])])
    #expect(tooLong.code == BP_INVALID_ARGUMENT && tooLong.message.contains("4096"))
    #expect(backend.apply(uris.map { .delete($0) }).absentCount == 0)
    #expect(Folder(scratch).names == [])
  }

  @Test(arguments: ["mutable:open/a", "open", "/etc/passwd", "Mutable://open/a", "lost+found://a", "../a", "a/b://c"])
  func whatIsNoURIIsRefused(_ uri: String) throws {
    let backend = try files(scratch)
    let answer = backend.apply([.put("a://fine", [1]), .put(uri, [1])])
    #expect(answer.code == BP_INVALID_ARGUMENT && answer.message.contains(uri) && !answer.isRetryable)
    #expect(backend.read(uri).code == BP_NOT_FOUND)
    #expect(Folder(scratch).names == [])
    #expect(backend.health.isEmpty)
  }
}
