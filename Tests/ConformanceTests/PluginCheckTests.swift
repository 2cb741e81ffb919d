import Foundation
import Testing

/// `backplane plugin check` as a user runs it. One after the other: each counts its threads and takes a while.
@Suite(.serialized) struct PluginCheckTests {
  static let bundled = [
    "libbackplane-backend-memory.so", "libbackplane-backend-sqlite.so", "libbackplane-schema-permissive.so",
    "libbackplane-transport-http.so", "libbackplane-backend-files.so", "libbackplane-schema-b3nd.so",
  ]
  static var built: [String] {
    bundled.map { "\(Tool.products)/\($0)" }.filter { FileManager.default.fileExists(atPath: $0) }
  }
  static var missing: [String] {
    bundled.filter { !FileManager.default.fileExists(atPath: "\(Tool.products)/\($0)") }
  }

  /// A plugin that this build does not have is not checked, and the output says which.
  @Test(.enabled(if: !missing.isEmpty, "every bundled plugin was built")) func whatWasNotBuiltIsNamed() {
    withKnownIssue("not built, so not checked: \(PluginCheckTests.missing)") {
      #expect(PluginCheckTests.missing == [])
    }
  }

  @Test(.enabled(if: !built.isEmpty, "no bundled plugin was built"), arguments: built)
  func aBundledPluginPasses(_ file: String) async throws {
    // Waiting for the disk at each of thousands of files says nothing more, and takes a minute.
    let configuration =
      file.hasSuffix("files.so") ? ["--configuration", #"{"url":"file://","durability":"os"}"#] : []
    let (status, answer) = try await CheckAnswer.of(file, options: ["--seed", "5"] + configuration)
    #expect(answer.failures.map { "\($0.name): \($0.detail)" } == [])
    #expect(answer.ok && status == 0 && answer.seed == 5)
    #expect(answer.checks.contains { $0.name == "life-cycle.resources" })
    #expect(!answer.capabilities.isEmpty)
  }

  @Test(arguments: [
    ("crash", "backend.large-data", "it crashed in this check: SIGSEGV"),
    ("hang", "backend.large-data", "it was still in this check after 4 s"),
    ("abort-in-create", "entry.pure", "it crashed in this check: SIGABRT"),
  ])
  func aCrashOrAHangIsAFailedCheckWithAName(_ fault: String, _ check: String, _ text: String) async throws {
    let folder = TestFolder()
    let (status, answer) = try await CheckAnswer.of(try await compile(fault, in: folder), "--timeout", "4")
    #expect(status == 1 && !answer.ok)
    #expect(answer.checks.last?.name == check, "\(answer.checks)")
    #expect(answer.checks.last?.detail.contains(text) == true, "\(answer.checks.last?.detail ?? "")")
    if fault != "abort-in-create" {
      #expect(answer.checks.contains { $0.name == "backend.overwrite" && $0.passed }, "\(answer.failures)")
    }
  }

  @Test(arguments: [
    ("leak", "life-cycle.resources", "descriptors went from"),
    ("lose-memory", "backend.growth", "memory from malloc grew by"),
    ("forgets", "backend.crash", "was acknowledged, and a read of mutable://conformance/crash/"),
    ("forgets", "backend.no-room", "was not there after a new start"),
  ])
  func whatOneProcessCannotSeeFails(_ fault: String, _ check: String, _ text: String) async throws {
    let folder = TestFolder()
    let (status, answer) = try await CheckAnswer.of(
      try await compile(fault, in: folder), "--only", check, "--only", "backend.overwrite")
    #expect(status == 1)
    #expect(answer.failures.map(\.name) == [check], "\(answer.failures)")
    #expect(answer.failures.first?.detail.contains(text) == true, "\(answer.failures)")
  }

  /// What a SQLite file was told, whatever the durability asked for.
  @Test(.enabled(if: !missing.contains("libbackplane-backend-sqlite.so")), arguments: ["disk", "os"])
  func killsLoseNothing(_ durability: String) async throws {
    let folder = TestFolder()
    let (_, answer) = try await CheckAnswer.of(
      Tool.products + "/libbackplane-backend-sqlite.so", "--only", "backend.crash", "--only", "backend.no-room",
      "--configuration", #"{"url":"sqlite://\#(folder.path)/records.sqlite3","durability":"\#(durability)"}"#)
    #expect(answer.failures.map { "\($0.name): \($0.detail)" } == [])
    #expect(answer.checks.map(\.name) == ["load", "backend.crash", "backend.no-room"])
    #expect(answer.checks.last?.detail.contains("said: ") == true)
  }

  @Test func aPluginInCPasses() async throws {
    let folder = TestFolder()
    let file = try await compile("none", in: folder)
    let (status, answer) = try await CheckAnswer.of(file)
    #expect(answer.failures.map { "\($0.name): \($0.detail)" } == [])
    #expect(status == 0)
    #expect(answer.capabilities.contains(CheckAnswer.Capability(name: "keeps versions", value: "no")))
    let table = try await Tool.run(Tool.backplane, ["plugin", "check", file, "--seed", "9"])
    #expect(table.status == 0 && table.output.contains("checks passed. The seed was 9."), "\(table)")
  }

  @Test func whatIsNoPluginFailsToLoad() async throws {
    let folder = TestFolder()
    let file = folder.path + "/text.so"
    try Data("hello".utf8).write(to: URL(fileURLWithPath: file))
    let (status, answer) = try await CheckAnswer.of(file)
    #expect(status == 1 && answer.checks.map(\.name) == ["load"])
    #expect(answer.checks.first?.detail.contains(file) == true)
    #expect(try await Tool.run(Tool.backplane, ["plugin", "check", folder.path + "/none.so"]).status == 64)
    #expect(try await Tool.run(Tool.backplane, ["plugin", "check", file, "--timeout", "0"]).status == 64)
    let unknown = ["plugin", "check", Tool.products + "/" + PluginCheckTests.bundled[0], "--only", "nothing"]
    let ending = try await Tool.run(Tool.backplane, unknown)
    #expect(ending.status == 64 && ending.error.contains("no check is called nothing"), "\(ending)")
  }

  /// Toys/backend.c with one fault, as an author without Swift would build it.
  private func compile(_ fault: String, in folder: TestFolder) async throws -> String {
    let toys = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Toys").path
    let file = "\(folder.path)/\(fault).so"
    let name = "FAULT_" + fault.uppercased().replacing("-", with: "_")
    let ending = try await Tool.run(
      "/usr/bin/cc",
      [
        "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread",
        "-Wl,-z,defs", "-I", Tool.headers, "-I", toys, "-Wa,-I,\(toys)", "-D\(name)", "-o", file, "\(toys)/backend.c",
      ])
    try #require(ending.status == 0, "\(ending.error)")
    return file
  }
}
