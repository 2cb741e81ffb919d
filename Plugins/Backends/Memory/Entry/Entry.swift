import MemoryBackend
import PluginAPI

let plugin = PluginEntry(MemoryBackend.self, id: "org.backplane.memory", version: "0.1.0") {
  MemoryBackend.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
