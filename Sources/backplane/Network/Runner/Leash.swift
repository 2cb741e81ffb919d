import Glibc
import SystemShims

/// The first moments of a node that the local runner starts: it ties its life to the runner's, goes into its folder, and
/// becomes `backplane serve`.
enum Leash {
  static let argument = "--leash"

  /// What to run for a leash in the folder `directory`; the environment is the caller's to give.
  static func arguments(parent: pid_t, directory: String, executable: String) -> [String] {
    ["backplane", argument, "\(parent)", directory, executable]
  }

  /// Call it first thing in main. What is set here outlives the exec.
  static func main() -> Never {
    let arguments = CommandLine.arguments
    guard arguments.count == 5, let parent = Int32(arguments[2]) else { _exit(64) }
    // The runner may have gone before there was a leash.
    guard bp_shim_die_with_parent(parent) == 0 else { _exit(70) }
    guard chdir(arguments[3]) == 0 else { fail("cannot enter \(arguments[3])") }
    execv(arguments[4], [strdup("backplane"), strdup("serve"), nil])
    fail("cannot run \(arguments[4])")
  }

  private static func fail(_ what: String) -> Never {
    Output.error("backplane: \(what): \(String(cString: strerror(errno)))")
    _exit(70)
  }
}
