import Foundation
import NodeTesting
import Testing

/// The Dockerfile, by the rules that its linters have: there is no engine to build it with.
@Suite struct Image {
  static let project = (0..<3).reduce(#filePath) { path, _ in (path as NSString).deletingLastPathComponent }

  struct Instruction {
    var word: String
    var rest: String
    /// Which FROM it stands under, from 0.
    var stage: Int
  }

  /// Its instructions, with continued lines joined and comments left out.
  private static func instructions() throws -> [Instruction] {
    let text = try String(contentsOfFile: project + "/Dockerfile", encoding: .utf8)
    var list: [Instruction] = []
    var pending = ""
    var stage = -1
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let line = line.trimmingCharacters(in: .whitespaces)
      if line.hasPrefix("#") || (line.isEmpty && pending.isEmpty) { continue }
      pending += pending.isEmpty ? line : " " + line
      if pending.hasSuffix("\\") {
        pending = String(pending.dropLast()).trimmingCharacters(in: .whitespaces)
        continue
      }
      let word = String(pending.prefix { $0 != " " })
      if word == "FROM" { stage += 1 }
      list.append(
        Instruction(
          word: word, rest: pending.dropFirst(word.count).trimmingCharacters(in: .whitespaces), stage: stage))
      pending = ""
    }
    return list
  }

  @Test func theImageIsBuiltByTheBook() throws {
    let all = try Self.instructions()
    let last = try #require(all.map(\.stage).max())
    #expect(last == 1, "a stage that builds, and one that runs")
    let run = all.filter { $0.stage == last }

    for base in all where base.word == "FROM" {
      let image = base.rest.split(separator: " ")[0]
      let tag = try #require(image.split(separator: ":").dropFirst().first, "\(base.rest) has no tag")
      #expect(tag != "latest" && tag.contains { $0.isNumber }, "\(base.rest) is not pinned")
    }
    #expect(run[0].rest.contains("slim"))
    #expect(!all.contains { $0.word == "ADD" || $0.word == "MAINTAINER" })
    for step in all where step.word == "RUN" {
      #expect(!step.rest.contains("sudo"))
      if step.rest.contains("packages ") || step.rest.contains("apt-get") {
        #expect(step.rest.contains("rm -rf /var/lib/apt/lists/*"), "\(step.rest)")
      }
    }
    // What runs gets its signals itself.
    for word in ["ENTRYPOINT", "CMD"] {
      let step = try #require(run.last { $0.word == word })
      #expect(step.rest.hasPrefix("[\"") && step.rest.hasSuffix("\"]"), "\(word) \(step.rest)")
    }
    let health = try #require(run.last { $0.word == "HEALTHCHECK" })
    #expect(health.rest.hasSuffix("CMD [\"backplane\", \"health\"]") && health.rest.contains("--timeout="))
    let user = try #require(run.lastIndex { $0.word == "USER" })
    #expect(run[user].rest.split(separator: ":").allSatisfy { Int($0).map { $0 > 0 } == true }, "\(run[user].rest)")
    #expect(!run[user...].contains { $0.word == "RUN" || $0.word == "COPY" })
    #expect(run.contains { $0.word == "VOLUME" && $0.rest.contains("/var/lib/backplane") })
    let paths = all.filter { $0.word == "WORKDIR" }.map(\.rest)
    #expect(paths.allSatisfy { $0.hasPrefix("/") })
  }

  @Test func whatIsCopiedExistsAndWhatIsSecretIsLeftOut() throws {
    let files = FileManager.default
    for step in try Self.instructions() where step.word == "COPY" && !step.rest.contains("--from=") {
      for source in step.rest.split(separator: " ").dropLast() where source != "." {
        #expect(files.fileExists(atPath: "\(Self.project)/\(source)"), "\(source)")
      }
    }
    let ignored = Set(
      try String(contentsOfFile: Self.project + "/.dockerignore", encoding: .utf8).split(separator: "\n").map(
        String.init))
    for name in [".git", "**/.build", "keys", ".env", "state", "network.json"] { #expect(ignored.contains(name)) }
  }

  /// Each library of the system that the node and its plugins are linked with comes with a package of the list, or is in
  /// every Debian.
  @Test func thePackagesAreThoseThatTheProgramsNeed() throws {
    let script = try String(contentsOfFile: Self.project + "/scripts/packages", encoding: .utf8)
    let line = try #require(script.split(separator: "\n").first { $0.hasPrefix("runtime=(") })
    let packages = Set(line.dropFirst("runtime=(".count).dropLast().split(separator: " ").map(String.init))
    // Essential, or needed by libstdc++6.
    let always: Set<String> = ["libc6", "libgcc-s1"]
    let folder = BuiltProducts.directory
    let programs = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
      $0 == "backplane" || $0 == "backplane-host" || $0.hasPrefix("libbackplane-") && $0.hasSuffix(".so")
    }
    #expect(programs.count > 5)
    var needed: Set<String> = []
    for program in programs {
      let (text, _, _) = try CommandLineTool.run("/usr/bin/objdump", ["-p", "\(folder)/\(program)"], in: "/")
      for line in text.split(separator: "\n") where line.contains("NEEDED") {
        needed.insert(String(line.split(separator: " ").last ?? ""))
      }
    }
    // Swift's own lie beside the programs.
    let system = needed.filter { name in
      !["swift", "Foundation", "_Foundation", "dispatch", "BlocksRuntime", "ld-linux"].contains { name.contains($0) }
    }
    #expect(system.count > 5, "\(needed)")
    for library in system.sorted() {
      let (text, errors, status) = try CommandLineTool.run("/usr/bin/dpkg", ["-S", "*/\(library)"], in: "/")
      let owners = Set(text.split(separator: "\n").compactMap { $0.split(separator: ":").first.map(String.init) })
      #expect(status == 0 && !owners.isDisjoint(with: packages.union(always)), "\(library): \(owners) \(errors)")
    }
  }
}
