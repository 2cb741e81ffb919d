import B3ndSchema
import PluginAPI

let plugin = PluginEntry(B3nd.self, id: "org.backplane.b3nd", version: "0.1.0") {
  B3nd.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
