import PluginAPI
import PostgreSQLBackend

let plugin = PluginEntry(PostgreSQLBackend.self, id: "org.backplane.postgresql", version: "0.1.0") {
  PostgreSQLBackend.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
