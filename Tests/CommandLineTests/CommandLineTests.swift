import Foundation
import Testing

@Suite struct CommandLineTests {
  @Test func usageErrorsExitWith64() async throws {
    #expect(try await CommandLineRun.run(["nonsense"]).status == 64)
    #expect(try await CommandLineRun.run(["read"]).status == 64)
    let secure = try await CommandLineRun.run(["read", "mutable://open/x", "--node", "https://a.example"])
    #expect(secure.status == 64)
    #expect(secure.error.contains("asks for TLS, which this client does not speak yet"))
    let uri = try await CommandLineRun.run(["read", "mutable:open", "--json"])
    #expect(uri.status == 64)
    #expect(uri.error.hasPrefix(#"{"error":{"code":"usage","message":""#))
  }

  @Test func helpAndCompletionsExitWith0() async throws {
    #expect(try await CommandLineRun.run(["--help"]).output.contains("SUBCOMMANDS"))
    let version = try await CommandLineRun.run(["--version"])
    #expect(version.status == 0 && version.output.hasPrefix("backplane 0."))
    let script = try await CommandLineRun.run(["--generate-completion-script", "bash"])
    #expect(script.status == 0 && script.output.contains("backplane"))
  }

  @Test func configCheckTellsEverythingAndExitsWith78() async throws {
    let folder = try TestFolder(["backplane.yaml": "log: { levl: info }\nreload: { watch: 5 }\n"])
    let plain = try await CommandLineRun.run(["config", "check"], directory: folder.path)
    #expect(plain.status == 78)
    #expect(plain.output.split(separator: "\n").count == 2)
    #expect(plain.output.contains("Did you mean \"level\"?"))
    let json = try await CommandLineRun.run(["config", "check", "--json"], directory: folder.path)
    #expect(json.status == 78)
    let answer = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
    #expect(answer["ok"] as? Bool == false)
    let problems = try #require(answer["problems"] as? [[String: Any]])
    #expect(problems.first?["file"] as? String == "backplane.yaml" && problems.first?["line"] as? Int == 1)
    #expect(problems.first?["pointer"] as? String == "/log/levl")
    let serve = try await CommandLineRun.run(["serve"], directory: folder.path)
    #expect(serve.status == 78 && serve.error.contains("backplane.yaml:1"))
  }

  @Test func configShowGivesOriginsAndNoSecrets() async throws {
    let folder = try TestFolder()
    let environment = ["PORT": "80", "BACKEND_URL": "postgresql://u:hunter2@h/d"]
    for arguments in [["config", "show"], ["config", "show", "--json"]] {
      let run = try await CommandLineRun.run(arguments, environment: environment, directory: folder.path)
      #expect(run.status == 0)
      #expect(run.output.contains("env PORT") && run.output.contains("postgresql://u:***@h/d"))
      #expect(!(run.output + run.error).contains("hunter2"))
    }
    let check = try await CommandLineRun.run(["config", "check"], environment: environment, directory: folder.path)
    #expect(check.status == 0)
  }

  @Test func recordsGoThroughByteForByte() async throws {
    let data = #"{"b":1.50,"a":[1e400,"\u0041"],"b":2}"#
    let node = try await StubNode { request, body in
      switch request {
      case "POST /api/v1/receive":
        let isExpected = body == #"{"tx":["mutable://open/a b",\#(data)]}"#
        return isExpected
          ? (.ok, "application/json", Array(#"{"accepted":true}"#.utf8))
          : (.badRequest, "application/json", Array(#"{"accepted":false,"error":"Not so"}"#.utf8))
      case "GET /api/v1/read/mutable/open/a%20b":
        return (.ok, "application/json", Array(#"{"ts":1,"data":\#(data)}"#.utf8))
      case "GET /api/v1/read/mutable/open/x.bin": return (.ok, "application/octet-stream", [0x00, 0x41])
      case "GET /api/v1/list/mutable/open?page=2&limit=10&pattern=a%2Fb&sortBy=name&sortOrder=desc":
        return (
          .ok, "application/json",
          Array(
            #"{"success":true,"data":[{"uri":"mutable://open/x"}],"pagination":{"page":2,"limit":10,"total":11}}"#.utf8)
        )
      case "DELETE /api/v1/delete/mutable/open/x": return (.ok, "application/json", Array(#"{"success":true}"#.utf8))
      default: return (.notFound, "application/json", Array(#"{"error":"Record not found"}"#.utf8))
      }
    }
    let environment = ["BACKPLANE_NODE": node.url]
    func run(_ arguments: String..., input: String = "") async throws -> CommandLineRun {
      try await CommandLineRun.run(arguments, environment: environment, input: input)
    }
    let sent = try await run("receive", "mutable://open/a b", input: data)
    #expect(sent.status == 0 && sent.output == "Accepted mutable://open/a b.\n", "\(sent)")
    let refused = try await run("receive", "mutable://open/a b", "5")
    #expect(refused.status == 1 && refused.error.contains("did not accept mutable://open/a b: Not so"))
    #expect(try await run("receive", "mutable://open/x", "hello").status == 64)
    #expect(try await run("read", "mutable://open/a b?q").output == data + "\n")
    #expect(try await run("read", "mutable://open/a b", "--json").output == #"{"ts":1,"data":\#(data)}"# + "\n")
    #expect(try await run("read", "mutable://open/x.bin").output == "\0A")
    #expect(try await run("read", "mutable://open/x.bin", "--json").output.contains(#""data_base64":"AEE=""#))
    let missing = try await run("read", "mutable://open/none")
    #expect(missing.status == 1 && missing.error.contains("Record not found"))
    let list = try await run(
      "list", "mutable://open", "--page", "2", "--limit", "10", "--pattern", "a/b", "--sort-by", "name", "--sort-order",
      "desc")
    #expect(list.output == "mutable://open/x\n" && list.error == "Page 2 of 2, 11 records in all.\n")
    #expect(try await run("delete", "mutable://open/x").output == "Deleted mutable://open/x.\n")
    try await node.stop()
    let gone = try await run("read", "mutable://open/x")
    #expect(gone.status == 69 && gone.error.contains("connection refused"))
  }

  @Test func receiptsAreSentencesAndSetTheExitCode() async throws {
    let folder = try TestFolder()
    let socket = folder.path + "/control.sock"
    let control = try await StubControl(path: socket) { line in
      if line.contains(#""now":["/x/a.so"]"#) {
        return #"{"ok":true,"receipt":{"id":7,"outcome":"refused","generation":3,"duration_ms":12,"trigger":"command","#
          + #""refusals":[{"file":"a.so","stage":"verify","message":"It is not an ELF file."}]}}"#
      }
      if line.contains("reload") {
        return #"{"ok":true,"receipt":{"id":8,"outcome":"applied","generation":4,"changes":[{"slot":"http","action":"#
          + #""replaced","plugin":"org.backplane.http","version":"2","previous_version":"1"}]}}"#
      }
      if line.contains("history") { return nil }
      return #"{"ok":false,"code":"configuration","message":"The node is not ready."}"#
    }
    let refused = try await CommandLineRun.run(["reload", "--control", socket, "--now", "/x/a.so"])
    #expect(refused.status == 69)
    #expect(
      refused.output == "Reload 7, asked for by command, was refused; generation 3 goes on serving. It took 12 ms.\n"
        + "  Refused a.so at verify: It is not an ELF file.\n")
    let applied = try await CommandLineRun.run(["reload", "--runtime", folder.path])
    #expect(applied.status == 0)
    #expect(applied.output.contains("Slot http now runs org.backplane.http 2 in place of 1."))
    let status = try await CommandLineRun.run(["status", "--control", socket])
    #expect(status.status == 78 && status.error == "backplane: The node is not ready.\n")
    let closed = try await CommandLineRun.run(["history", "--control", socket])
    #expect(closed.status == 69 && closed.error.contains("without an answer"))
    try await control.stop()
    let gone = try await CommandLineRun.run(["status", "--control", folder.path + "/none.sock"])
    #expect(gone.status == 69 && gone.error.contains("there is no such socket"))
  }
}
