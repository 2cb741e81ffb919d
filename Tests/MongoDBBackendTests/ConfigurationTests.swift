import BackendTesting
import Glibc
import MongoDBBackend
import MongoWireServer
import PluginAPI
import Testing

/// What is refused before anything serves, and with which words.
@Suite struct ConfigurationTests {
  private func problems(_ json: String) -> [String] {
    do {
      _ = try TestBackend(MongoDBBackend.self, json)
      return []
    } catch {
      return (error as? Refused)?.lines ?? ["\(error)"]
    }
  }

  private func problems(url: String) -> [String] { problems(#"{"url":"\#(url)"}"#) }

  @Test(arguments: [
    "mongodb://h/db", "mongodb://h:27017/db?collection=c", "mongodb://u:p@a:1%2Cb:2%2cc/db",
    "mongodb://a,b:2,c/db?replicaSet=rs&w=majority&journal=true",
    "mongodb+srv://cluster.example.net/db?retryWrites=true&w=majority", "mongodb://u:p%40ss@h/db?authSource=admin",
    "mongodb://h/db?COLLECTION=x&W=1&readPreference=primary&tls=true&maxPoolSize=5",
  ])
  func goodURLsAreAccepted(_ url: String) { #expect(problems(url: url) == []) }

  @Test(arguments: [
    ("", "begins with mongodb:// or mongodb+srv://"), ("postgresql://h/db", "begins with mongodb://"),
    ("mongodb://", "cannot be understood"), ("mongodb://h", "must include database in path"),
    ("mongodb://h/", "must include database in path"), ("mongodb://h/?collection=c", "must include database in path"),
    ("mongodb://h/db?colection=c", "the option 'colection'"), ("mongodb://h/db?w=1&jornal=true", "the option 'jornal'"),
    ("mongodb://h/db?collection=", "the collection in the url"), ("mongodb://h/db?collection=%zz", "the collection"),
    ("mongodb://h/db?collection=a&collection=b", "names the collection 2 times"),
    ("mongodb://h/db?collection=a%24b", "'a$b'"), ("mongodb://h/db?collection=system.users", "system."),
    ("mongodb://h/d%20b", "d%20b"), ("mongodb://h/db?w=0", "w=0"), ("mongodb://h/db?safe=false", "w=0"),
    ("mongodb://h/db?readPreference=secondary", "readPreference"),
    ("mongodb://h/db?readPreference=primaryPreferred", "readPreference"),
    ("mongodb://h/db?w=1&readConcernLevel=majority", "readConcernLevel"),
    ("mongodb://h/db?tls=true&tlsCAFile=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ("mongodb://h:99999/db", "cannot be understood"), ("mongodb+srv://a,b/db", "cannot be understood"),
  ])
  func badURLsAreRefusedWithASentence(_ url: String, _ text: String) {
    let problems = problems(url: url)
    #expect(problems.count == 1 && problems[0].hasPrefix("/url: ") && problems[0].contains(text), "\(problems)")
  }

  @Test func everythingThatIsWrongIsSaid() {
    let problems = problems(
      #"{"url":"mongodb://h/db?foo=1&bar=2","batch_units_max":0,"readers":65,"queue_units_max":0,"call_timeout_ms":1}"#)
    #expect(
      problems.map { String($0.prefix { $0 != ":" }) } == [
        "/batch_units_max", "/queue_units_max", "/readers", "/call_timeout_ms", "/url", "/url",
      ], "\(problems)")
    #expect(self.problems(#"{"url":"mongodb://h/db","colour":1}"#).first?.hasPrefix("/colour") == true)
    #expect(self.problems("{}").first?.hasPrefix("/url") == true)
  }

  @Test(arguments: [
    "mongodb://admin:s3cr3t-word@h", "mongodb://admin:s3cr3t-word@h/db?foo=s3cr3t-word&x",
    "mongodb://admin:s3cr3t-word@/db",
    "mongodb://admin:s3cr3t/word@h/db?nope=1", "mongodb://admin:s3cr3t-word@h/db?authMechanismProperties=s3cr3t-word",
    "mongodb://admin:s3cr3t-word@@h/db", "mongodb://admin:s3cr3t?x-word@h/db", "mongodb://admin:s@3cr3t?-word@h/db",
    "mongodb://admin:s3cr3t-word@h:x/db",
  ])
  func noSecretIsRepeated(_ url: String) {
    let problems = problems(url: url).joined(separator: "\n")
    #expect(!problems.contains("s3cr3t") && !problems.contains("-word") && !problems.contains("/word"), "\(problems)")
  }

  // MARK: The server

  @Test func aPasswordOpensAndAWrongOneIsNamed() throws {
    let server = MongoWireServer(user: "backplane", password: "pa%ss/wo:rd")
    func url(_ password: String) -> String { "mongodb://backplane:\(password)@\(server.address)/test" }
    let backend = try Bench.start(url("pa%25ss%2Fwo%3Ard"))
    #expect(backend.put("mutable://open/a", "1").code == BP_OK)
    try backend.stop()
    let refused = try #require(Bench.refusal(url("wr0ng-word")))
    #expect(refused.code == BP_UNAUTHENTICATED)
    #expect(refused.description.contains("user name and password"), "\(refused)")
    #expect(!refused.description.contains("wr0ng-word"), "\(refused)")
    let none = try #require(Bench.refusal(server.url()))
    #expect(none.code == BP_PERMISSION_DENIED && none.description.contains("readWrite"), "\(none)")
  }

  @Test(arguments: [
    ("mongodb://127.0.0.1:1/db", "no server for b3nd_data in the database db at 127.0.0.1:1"),
    ("mongodb://no-such-host.invalid/db", "no-such-host.invalid"),
    ("mongodb+srv://no-such-host.invalid/db", "no-such-host.invalid"),
  ])
  func aServerThatIsNotThereIsNamed(_ url: String, _ text: String) throws {
    let refused = try #require(
      Bench.refusal(url + (url.contains("+srv") ? "" : "?serverSelectionTimeoutMS=500")))
    #expect(refused.description.contains(text), "\(refused)")
    #expect(!refused.description.contains("\n"), "\(refused)")
  }

  @Test func whatTheServerIsNotIsNamed() throws {
    let server = MongoWireServer(.standalone)
    // A replica set of another name, and a server that speaks no TLS.
    for options in ["replicaSet=other", "tls=true"] {
      let refused = try #require(Bench.refusal(server.url(options: options + "&serverSelectionTimeoutMS=500")))
      #expect(refused.code == BP_UNAVAILABLE && refused.description.contains(server.address), "\(refused)")
    }
    let w = try #require(Bench.refusal(server.url(options: "w=3")))
    #expect(w.description.contains("Not enough data-bearing nodes"), "\(w)")
  }

  @Test func theIndexIsMadeOnceAndConflictsAreNamed() throws {
    let server = MongoWireServer()
    for _ in 0..<2 { try Bench.start(server.url()).stop() }
    #expect(server.indexes().map { $0["name"]?.text } == ["_id_", "backplane_uri"])
    #expect(server.count("createIndexes") == 1)
    // One of another name will do.
    try server.createIndex(
      ["key": .document(["uri": .int32(1)]), "name": "mine", "unique": .bool(true)], on: "test.own")
    try Bench.start(server.url(options: "collection=own")).stop()
    #expect(server.indexes("test.own").count == 2)
    try server.createIndex(["key": .document(["uri": .int32(1)]), "name": "uri_1"], on: "test.plain")
    let plain = try #require(Bench.refusal(server.url(options: "collection=plain")))
    #expect(plain.code == BP_FAILED_PRECONDITION && plain.description.contains("drop it"), "\(plain)")
    server.createCollection("test.en", locale: "en")
    let collated = try #require(Bench.refusal(server.url(options: "collection=en")))
    #expect(collated.description.contains("collation"), "\(collated)")
    for _ in 0..<2 { try server.insert(["uri": "mutable://open/twice"], into: "test.twice") }
    let twice = try #require(Bench.refusal(server.url(options: "collection=twice")))
    #expect(twice.code == BP_FAILED_PRECONDITION && twice.description.contains("mutable://open/twice"), "\(twice)")
    #expect(twice.description.contains("several documents with one uri"))
  }

  // MARK: Durability

  /// What the acknowledgement says, by the URL and by what the servers say of themselves.
  @Test(arguments: [
    ("", Persona.standalone, BP_DURABILITY_DISK), ("w=1", .standalone, BP_DURABILITY_MEMORY),
    ("w=1&journal=true", .standalone, BP_DURABILITY_DISK),
    ("w=majority&journal=false", .standalone, BP_DURABILITY_MEMORY),
    ("", .replicaSet(name: "rs0"), BP_DURABILITY_DISK),
    ("", .replicaSet(name: "rs0", others: ["127.0.0.1:1"]), BP_DURABILITY_QUORUM),
    ("w=majority", .replicaSet(name: "rs0", others: ["127.0.0.1:1", "127.0.0.1:2"]), BP_DURABILITY_QUORUM),
    ("w=majority&journal=false", .replicaSet(name: "rs0", others: ["127.0.0.1:1"]), BP_DURABILITY_MEMORY),
    // Rolled back when another member becomes primary.
    ("w=1&journal=true", .replicaSet(name: "rs0", others: ["127.0.0.1:1"]), BP_DURABILITY_MEMORY),
    ("w=2&journal=true", .replicaSet(name: "rs0", others: ["127.0.0.1:1"]), BP_DURABILITY_MEMORY),
    ("w=majority", .mongos, BP_DURABILITY_DISK),
  ])
  func anAcknowledgementNeverSaysTooMuch(_ options: String, _ persona: Persona, _ durability: UInt32) throws {
    let bench = try Bench(persona, options: options)
    let answer = bench.backend.put("mutable://open/a", "1")
    #expect(answer.code == BP_OK && answer.durability == durability, "\(answer)")
  }
}
