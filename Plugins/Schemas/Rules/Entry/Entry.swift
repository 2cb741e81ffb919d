import PluginAPI
import RulesSchema

let plugin = PluginEntry(Rules.self, id: "org.backplane.rules", version: "0.1.0") {
  Rules.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
