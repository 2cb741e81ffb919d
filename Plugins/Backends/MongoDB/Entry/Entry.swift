import MongoDBBackend
import PluginAPI

let plugin = PluginEntry(MongoDBBackend.self, id: "org.backplane.mongodb", version: "0.1.0") {
  MongoDBBackend.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
