import BackplaneABI
import Glibc
import IsolationWire
import SystemShims

/// Hosts one plugin for a kernel: `backplane-host SLOT PARENT SHARED-BYTES`, started by the kernel with the descriptors
/// of `HostDescriptors`. Everything else comes over the sockets. The slot is there for `ps`.
@main
enum BackplaneHost {
  static func main() {
    guard CommandLine.arguments.count == 4, let parent = Int32(CommandLine.arguments[2]),
      let sharedBytes = Int(CommandLine.arguments[3]), bp_shim_die_with_parent(parent) == 0
    else {
      let sentence = "backplane-host is started by backplane, to run a plugin in a process of its own\n"
      _ = sentence.withCString { write(2, $0, strlen($0)) }
      exit(64)
    }
    for descriptor in HostDescriptors.all { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    signal(SIGPIPE, SIG_IGN)
    bp_shim_prefer_for_out_of_memory()
    _ = bp_shim_report_crashes(HostDescriptors.crashes, 32)
    guard let memory = SharedMemory.adopt(HostDescriptors.memory, sizeBytes: sharedBytes) else { exit(71) }
    let connection = Connection(HostDescriptors.calls, memory: memory, patience: .waits, waitingBytesMax: .max)
    let plugin = HostedPlugin(
      connection, asking: AskingSocket(HostDescriptors.questions, timeoutMs: 0),
      answering: AskingSocket(HostDescriptors.canonical, timeoutMs: 0))
    HostTables.plugin = plugin
    _ = Receiver.run(connection, .inPlace, plugin)
    // The kernel has closed the stream or is gone. Static destructors must not run (core.h, "Life cycle").
    _exit(0)
  }
}
