import ManagedService
import PluginAPI

let plugin = PluginEntry(Managed.self, id: "org.backplane.managed", version: "0.1.0") {
  Managed.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
