import Foundation
import NodeTesting
import Testing

/// A folder that `scripts/install` takes for the root of a system, with the build that the tests run.
struct ScratchSystem {
  let folder: TemporaryFolder
  var root: String { folder.path + "/root" }

  private static let project = (0..<3).reduce(#filePath) { path, _ in (path as NSString).deletingLastPathComponent }
  /// What the system lends: seen from the inside, it has nothing else.
  private static let lent = [
    "bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "proc",
  ]

  init() throws {
    folder = try TemporaryFolder()
    let files = FileManager.default
    for name in ["usr", "etc", "tmp", "run/backplane", "var/lib/backplane"] {
      try files.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
    }
    for name in Self.lent {
      if let target = try? files.destinationOfSymbolicLink(atPath: "/\(name)") {
        try files.createSymbolicLink(atPath: "\(root)/\(name)", withDestinationPath: target)
      } else if files.fileExists(atPath: "/\(name)") {
        try files.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
      }
    }
  }

  @discardableResult
  func install(_ arguments: [String] = [], environment: [String: String] = [:]) throws -> (text: String, status: Int32)
  {
    let (output, errors, status) = try CommandLineTool.run(
      "\(Self.project)/scripts/install", ["--products", BuiltProducts.directory] + arguments, in: folder.path,
      environment: environment.isEmpty ? ["DESTDIR": root] : environment)
    return (output + errors, status)
  }

  /// Every file and folder but the node's own data.
  func content() throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: root).filter {
      !$0.hasPrefix("var/lib/backplane/") && !$0.hasPrefix("run/backplane/")
    }.sorted()
  }

  func text(_ path: String) throws -> String { try String(contentsOfFile: "\(root)/\(path)", encoding: .utf8) }

  /// Runs the installed node as the unit does. Inside of the root, where there is no toolchain, if we may enter it;
  /// otherwise from outside.
  func start() throws -> NodeProcess {
    let enter = geteuid() == 0 ? ["-m"] : ["-r", "-m"]
    let mounts = Self.lent.map {
      "[ -L '\(root)/\($0)' ] || [ ! -d '/\($0)' ] || mount --rbind '/\($0)' '\(root)/\($0)'"
    }
    let serve = ["/usr/local/bin/backplane", "serve", "--config", "/etc/backplane/backplane.yaml"]
    let script = (["set -e"] + mounts + ["exec /usr/sbin/chroot '\(root)' \"$@\""]).joined(separator: "\n")
    let inside = ["/usr/bin/unshare"] + enter + ["/bin/sh", "-c", script, "sh"]
    let canEnter =
      try CommandLineTool.run(inside[0], Array(inside.dropFirst()) + ["/bin/true"], in: folder.path).status == 0
    let outside = [
      "\(root)\(serve[0])", "serve", "--config", root + serve[3], "--plugins",
      "\(root)/usr/local/lib/backplane/plugins.d",
    ]
    let base = canEnter ? "" : root
    return try NodeProcess(
      folder: folder, plugins: [],
      environment: [
        "BACKEND_URL": "", "LD_LIBRARY_PATH": "", "STATE_DIRECTORY": base + "/var/lib/backplane",
        "RUNTIME_DIRECTORY": base + "/run/backplane",
      ],
      command: canEnter ? inside + serve : outside)
  }
}

@Suite struct Packaging {
  @Test func whatIsInstalledServesAndIsTakenAwayWithoutATrace() throws {
    let system = try ScratchSystem()
    let before = try system.content()
    let (text, status) = try system.install()
    try #require(status == 0, "\(text)")
    let installed = try system.content()
    for name in [
      "usr/local/bin/backplane", "usr/local/lib/backplane/libswiftCore.so",
      "usr/local/lib/systemd/system/backplane.service",
      "usr/local/lib/sysusers.d/backplane.conf", "usr/local/lib/tmpfiles.d/backplane.conf",
      "etc/backplane/backplane.yaml",
      "etc/backplane/plugins.d", "usr/local/share/doc/backplane/docs/service.md",
    ]
      + (BuiltProducts.bundled + BuiltProducts.occasional).map({
        "usr/local/lib/backplane/plugins.d/libbackplane-\($0).so"
      })
    {
      #expect(installed.contains(name), "\(name) is missing")
    }

    // Again: nothing more, and nothing is put anew.
    let program = "\(system.root)/usr/local/lib/backplane/backplane"
    let inode = try FileManager.default.attributesOfItem(atPath: program)[.systemFileNumber] as? Int
    #expect(try system.install().status == 0)
    #expect(try system.content() == installed)
    #expect(try FileManager.default.attributesOfItem(atPath: program)[.systemFileNumber] as? Int == inode)

    let node = try system.start()
    #expect(try node.put("mutable://open/packaged", "{\"kept\":true}").status == 200)
    let answer = try node.read("mutable/open/packaged")
    #expect(answer.status == 200 && answer.text.contains("\"kept\":true"), "\(answer.text)")
    // Not Foundation's way to read a file: of one without a size it takes the first page only.
    let maps = try CommandLineTool.run("/bin/cat", ["/proc/\(node.pid)/maps"], in: system.folder.path).output
      .split(separator: "\n")
    let runtime = Set(
      maps.filter { $0.contains("libswift") || $0.contains("libFoundation") }.map { $0.split(separator: " ").last! })
    #expect(!runtime.isEmpty && runtime.allSatisfy { $0.contains("/usr/local/lib/backplane/lib") }, "\(runtime)")
    #expect(node.stop() == 0)
    #expect(FileManager.default.fileExists(atPath: "\(system.root)/var/lib/backplane/backplane.sqlite"))

    let (said, ending) = try system.install(["--uninstall"])
    #expect(ending == 0 && said.contains("var/lib/backplane"), "\(said)")
    #expect(try system.content() == before)
    #expect(FileManager.default.fileExists(atPath: "\(system.root)/var/lib/backplane/backplane.sqlite"))
  }

  @Test func anOperatorsConfigurationIsNeverTouched() throws {
    let system = try ScratchSystem()
    try system.folder.write("log: {level: debug}", to: "root/etc/backplane/backplane.yaml")
    let before = try system.content()
    #expect(try system.install().status == 0)
    #expect(try system.text("etc/backplane/backplane.yaml") == "log: {level: debug}")
    #expect(try system.install(["--uninstall"]).status == 0)
    #expect(try system.content() == before)

    // One that was installed and then changed is the operator's, too.
    let other = try ScratchSystem()
    #expect(try other.install().status == 0)
    try other.folder.write("log: {level: debug}", to: "root/etc/backplane/backplane.yaml")
    #expect(try other.install().status == 0)
    let (said, status) = try other.install(["--uninstall"])
    #expect(status == 0 && said.contains("backplane.yaml, which was changed"), "\(said)")
    #expect(try other.text("etc/backplane/backplane.yaml") == "log: {level: debug}")
  }

  @Test func anotherPrefixIsInEveryFileThatNamesIt() throws {
    let system = try ScratchSystem()
    #expect(
      try system.install(["--prefix=/opt/node", "--root", system.root], environment: ["DESTDIR": "/nowhere"]).status
        == 0)
    let unit = try system.text("etc/systemd/system/backplane.service")
    #expect(unit.contains("\nExecStart=/opt/node/bin/backplane serve --config /etc/backplane/backplane.yaml\n"))
    #expect(unit.contains("\nExecPaths=/opt/node/lib/backplane /usr "))
    #expect(unit.contains("\nDocumentation=file:/opt/node/share/doc/backplane/docs/service.md\n"))
    let settings = try system.text("etc/backplane/backplane.yaml")
    #expect(settings.contains("\n  plugins: [/opt/node/lib/backplane/plugins.d, /etc/backplane/plugins.d]\n"))
  }

  @Test func whatCannotBeInstalledIsRefusedWithASentence() throws {
    let system = try ScratchSystem()
    let before = try system.content()
    func refusal(_ arguments: [String]) throws -> String {
      let (text, status) = try system.install(arguments)
      #expect(status == 64 || status == 69, "\(status) \(text)")
      #expect(try system.content() == before)
      return text
    }
    #expect(try refusal(["--nonsense"]).contains("there is no option --nonsense"))
    #expect(try refusal(["--prefix", ""]).contains("--prefix needs a value"))
    #expect(try refusal(["--prefix", "/home/me"]).contains("the unit hides /home/me"))
    #expect(try refusal(["--prefix", "/opt/a b"]).contains("a unit file cannot carry"))
    #expect(try refusal(["--uninstall"]).contains("nothing is installed"))
    #expect(try refusal(["--products", system.root, "--root", system.root]).contains("there is no build in"))
  }

  @Test func theUnitIsHardenedAndUnderstoodBySystemd() throws {
    for version in [252, 257] {
      let system = try ScratchSystem()
      #expect(try system.install(["--systemd", "\(version)"]).status == 0)
      let unit = "\(system.root)/usr/local/lib/systemd/system/backplane.service"
      let text = try String(contentsOfFile: unit, encoding: .utf8)
      #expect(text.contains("\nType=notify-reload\n") == (version >= 253))
      #expect(text.contains("\nExecReload=/bin/kill -HUP $MAINPID\n") == (version < 253))

      let (score, scoreErrors, scoreStatus) = try CommandLineTool.run(
        "/usr/bin/systemd-analyze", ["security", "--offline=true", "--no-pager", "--threshold=20", unit],
        in: system.root)
      #expect(scoreStatus == 0, "\(score)\(scoreErrors)")
      let exposure = score.split(separator: "\n").last { $0.contains("Overall exposure level") }
      let figure = exposure?.split(separator: " ").compactMap { Double($0) }.first
      #expect(figure.map { $0 <= 2.0 } == true, "\(score)\(scoreErrors)")

      // It looks for the programs on this machine, and this machine's systemd may be too old for the newer unit.
      let (_, problems, _) = try CommandLineTool.run(
        "/usr/bin/systemd-analyze", ["verify", "--man=no", unit], in: system.root)
      let others = problems.split(separator: "\n").filter {
        $0.contains("backplane") && !$0.contains("is not executable")
          && !(version >= 253 && $0.contains("notify-reload"))
      }
      #expect(others.isEmpty, "\(others)")
    }
  }

  @Test func theUserAndTheFoldersAreMade() throws {
    let system = try ScratchSystem()
    #expect(try system.install(["--prefix", "/usr"]).status == 0)
    func run(_ tool: String, _ arguments: [String]) throws {
      let (output, errors, status) = try CommandLineTool.run(
        "/usr/bin/\(tool)", ["--root=\(system.root)"] + arguments + ["backplane.conf"], in: system.root)
      #expect(status == 0, "\(output)\(errors)")
    }
    try run("systemd-sysusers", [])
    #expect(try system.text("etc/passwd").contains("backplane:x:"))
    #expect(try system.text("etc/group").contains("backplane:x:"))
    for name in ["conf.d", "plugins.d", "secrets"] {
      try FileManager.default.removeItem(atPath: "\(system.root)/etc/backplane/\(name)")
    }
    try run("systemd-tmpfiles", ["--create"])
    var facts = stat()
    #expect(stat("\(system.root)/etc/backplane/secrets", &facts) == 0 && facts.st_mode & 0o777 == 0o700)
    #expect(stat("\(system.root)/etc/backplane/plugins.d", &facts) == 0 && facts.st_mode & 0o777 == 0o755)
  }
}
