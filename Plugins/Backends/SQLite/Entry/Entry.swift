import PluginAPI
import SQLiteBackend

let plugin = PluginEntry(SQLiteBackend.self, id: "org.backplane.sqlite", version: "0.1.0") {
  SQLiteBackend.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
