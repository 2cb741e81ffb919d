import PermissiveSchema
import PluginAPI

let plugin = PluginEntry(Permissive.self, id: "org.backplane.permissive", version: "0.1.0") {
  Permissive.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
