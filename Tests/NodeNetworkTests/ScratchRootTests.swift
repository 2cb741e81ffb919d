import Foundation
import NodeTesting
import Testing

/// What a container would be, made by hand: the installation in a root of its own that cannot be written, this machine's
/// userland lent to it in place of the image's base, and the node as the image's user. It is not the image: neither the
/// packages of its base nor an engine's namespaces for processes and network are tried here.
@Suite struct ScratchRoot {
  /// What the machine lends; nothing of it can be written.
  private static let lent = ["bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]

  private static func make(_ folder: TemporaryFolder) throws -> String {
    let root = folder.path + "/root"
    let files = FileManager.default
    for name in ["usr", "etc", "tmp", "proc", "dev", "run/backplane", "var/lib/backplane"] {
      try files.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
    }
    for name in lent {
      if let target = try? files.destinationOfSymbolicLink(atPath: "/\(name)") {
        try files.createSymbolicLink(atPath: "\(root)/\(name)", withDestinationPath: target)
      } else if files.fileExists(atPath: "/\(name)") {
        try files.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
      }
    }
    // Elsewhere than in the image, whose /usr is its own: here it is the machine's.
    let (text, errors, status) = try CommandLineTool.run(
      Image.project + "/scripts/install",
      ["--products", BuiltProducts.directory, "--prefix", "/opt/backplane", "--root", root], in: folder.path)
    guard status == 0 else { throw NodeProcess.Failed(description: text + errors) }
    return root
  }

  /// Enters the root read-only, with what the image writes to on file systems of their own, as user 10001 without any
  /// capability, and becomes `arguments`.
  private static func enter(_ root: String, _ arguments: [String]) -> [String] {
    var script = ["set -e", "mount --bind '\(root)' '\(root)'"]
    script += lent.map {
      "[ -L '\(root)/\($0)' ] || [ ! -d '/\($0)' ] || { mount --bind '/\($0)' '\(root)/\($0)'; mount -o remount,bind,ro '\(root)/\($0)'; }"
    }
    script += [
      "mount -t proc proc '\(root)/proc'", "mount --bind /dev '\(root)/dev'",
      "mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs '\(root)/tmp'",
      "mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs '\(root)/run/backplane'",
      // The volume: as an engine makes it, of the image's folder with its owner, and plugins are executed from it.
      "mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs '\(root)/var/lib/backplane'",
      "mount -o remount,bind,ro '\(root)'",
      "exec /usr/sbin/chroot '\(root)' /usr/bin/setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs"
        + " --bounding-set=-all --inh-caps=-all \"$@\"",
    ]
    return ["/usr/bin/unshare", "-m", "/bin/sh", "-c", script.joined(separator: "\n"), "sh"] + arguments
  }

  @Test func theInstallationServesFromARootThatNobodyCanWrite() throws {
    try #require(geteuid() == 0, "entering a root of its own needs the superuser, as the rest of scripts/test does")
    let folder = try TemporaryFolder()
    let root = try Self.make(folder)
    let program = "/opt/backplane/bin/backplane"
    let port = FreePort.find()
    let environment = [
      "PORT": "\(port)", "BACKEND_URL": "", "LD_LIBRARY_PATH": "", "STATE_DIRECTORY": "/var/lib/backplane",
      "RUNTIME_DIRECTORY": "/run/backplane",
    ]
    let node = try NodeProcess(
      folder: folder, plugins: [], environment: environment, command: Self.enter(root, [program, "serve"]))
    #expect(try node.put("mutable://open/contained", "{\"kept\":true}").status == 200)
    #expect(try node.read("mutable/open/contained").text.contains("\"kept\":true"))

    // As who it runs, with what, and that its root is what it should be.
    let status = ProcessFile.read("/proc/\(node.pid)/status")
    func field(_ name: String) -> [Substring] {
      status.split(separator: "\n").first { $0.hasPrefix(name + ":") }?.split(separator: "\t").dropFirst().map { $0 }
        ?? []
    }
    #expect(field("Uid").allSatisfy { $0 == "10001" } && field("Gid").allSatisfy { $0 == "10001" }, "\(status)")
    #expect(field("CapEff") == ["0000000000000000"] && field("CapBnd") == ["0000000000000000"], "\(status)")
    #expect(field("NoNewPrivs") == ["1"])
    let mounts = ProcessFile.read("/proc/\(node.pid)/mounts").split(separator: "\n")
    let writable = mounts.filter { line in
      let fields = line.split(separator: " ")
      return fields.count > 3 && fields[3].split(separator: ",").first == "rw"
    }.map { $0.split(separator: " ")[1] }.filter { $0 != "/proc" && !$0.hasPrefix("/dev") }
    #expect(Set(writable) == ["/tmp", "/run/backplane", "/var/lib/backplane"], "\(mounts)")

    // The health check of the image, beside the node.
    func check() throws -> (output: String, errors: String, status: Int32) {
      let command = Self.enter(root, [program, "health"])
      return try CommandLineTool.run(
        command[0], Array(command.dropFirst()), in: folder.path,
        environment: ["PORT": "\(port)", "LD_LIBRARY_PATH": "", "BACKPLANE_NODE": ""])
    }
    let healthy = try check()
    #expect(healthy.status == 0 && healthy.output == "healthy\n", "\(healthy)")
    #expect(node.stop() == 0)
    let gone = try check()
    #expect(gone.status == 69, "\(gone)")
  }
}
