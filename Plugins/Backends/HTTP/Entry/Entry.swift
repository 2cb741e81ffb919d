import HTTPBackend
import PluginAPI

let plugin = PluginEntry(HTTPBackend.self, id: "org.backplane.http-backend", version: "0.1.0") {
  HTTPBackend.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
