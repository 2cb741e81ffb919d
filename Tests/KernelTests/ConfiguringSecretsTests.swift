import Kernel
import Testing

@Suite struct ConfiguringSecretsTests {
  @Test(arguments: [
    ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
    ("postgresql://u:p@ss/wo@rd@h/d", "postgresql://u:***@h/d"),
    ("postgresql://u:pa?ss@h/d", "postgresql://u:***@h/d"),
    ("postgresql://u:pa\"ss'@h/d", "postgresql://u:***@h/d"),
    ("postgresql://u@h/d", "postgresql://u@h/d"),
    ("http://h:8080/p?q=1", "http://h:8080/p?q=1"),
    ("http://h/p?password=x&a=b&api_key=y", "http://h/p?password=***&a=b&api_key=***"),
    ("http://h/p?mail=a@b", "http://h/p?mail=a@b"),
    ("memory://,mongodb://a:b@h/d, x://c:d@e", "memory://,mongodb://a:***@h/d, x://c:***@e"),
    ("could not open postgresql://u:p@h/d at once", "could not open postgresql://u:***@h/d at once"),
    ("no url: a@b", "no url: a@b"), ("", ""), ("://", "://"), ("x://:@", "x://:***@"),
  ])
  func passwordsInURLsAreRedacted(text: String, expected: String) {
    #expect(Redaction.redact(text) == expected)
  }

  @Test func secretsAreResolvedForThePluginAndNeverShown() throws {
    let folder = try ConfigurationFolder([
      "credentials/db": "hunter2\n", "token.txt": "t0ken",
      "backplane.yaml": """
      slots:
        primary:
          kind: backend
          url: postgresql://u:${credential:db}@h/d
          auth: { token_file: token.txt, password: in-the-open, note: "${env:NOTE} $${x} $5" }
          private_key_file: key.pem
          state: ${state_directory}/x
      """,
    ])
    let environment = ["CREDENTIALS_DIRECTORY": folder.path + "/credentials", "NOTE": "n", "STATE_DIRECTORY": "/s ?"]
    let loaded = try folder.load(environment)
    let slot = try #require(loaded.slot("primary"))
    #expect(
      slot.json
        == #"{"auth":{"note":"n ${x} $5","password":"in-the-open","token":"t0ken"},"private_key_file":"key.pem","state":"/s%20%3F/x","url":"postgresql://u:hunter2@h/d"}"#
    )
    let shown = "\(slot) \(String(reflecting: slot)) \(loaded.values) \(slot.redactedJSON)"
    for secret in ["hunter2", "t0ken", "in-the-open"] { #expect(!shown.contains(secret)) }
    #expect(slot.origin(at: "/auth/token")?.description == "file backplane.yaml:5")
    // A rotated secret makes another slot, which is what makes a reload take it up.
    try folder.write("credentials/db", "hunter3\n")
    #expect(try folder.load(environment).slot("primary") != slot)
  }

  @Test(arguments: [
    ("${credential:db}", "needs CREDENTIALS_DIRECTORY"), ("${file:none}", "cannot be read: it does not exist"),
    ("${env:NONE}", "not set"), ("${what}", "is unknown"), ("${open", "is not closed"),
  ])
  func placeholdersThatCannotBeFilled(text: String, expected: String) throws {
    let yaml = "slots: {a: {kind: backend, url: 'memory://', x: ['\(text)']}}"
    let problems = try ConfigurationFolder(["backplane.yaml": yaml]).problems()
    #expect(problems.count == 1)
    #expect(problems.first?.contains("(/slots/a/x/0)") == true && problems.first?.contains(expected) == true)
  }

  @Test func aCredentialCannotLeaveItsFolder() throws {
    let folder = try ConfigurationFolder([
      "secret": "s", "credentials/a": "a",
      "backplane.yaml": "slots: {a: {kind: backend, url: 'memory://${credential:../secret}'}}",
    ])
    let problems = folder.problems(["CREDENTIALS_DIRECTORY": folder.path + "/credentials"])
    #expect(problems.first?.contains("without a slash") == true)
  }

  @Test func aWrongSecretIsNotPrinted() throws {
    let folder = try ConfigurationFolder([
      "u": "pa55word", "backplane.yaml": "slots: {a: {kind: backend, url_file: u}}",
    ])
    let problems = folder.problems()
    #expect(problems.count == 1)
    #expect(!problems.joined().contains("pa55word"))
    let both = try ConfigurationFolder([
      "u": "memory://", "backplane.yaml": "slots: {a: {kind: backend, url_file: u, url: 'memory://'}}",
    ])
    #expect(both.problems().first?.contains("Give url or url_file, not both.") == true)
  }
}
