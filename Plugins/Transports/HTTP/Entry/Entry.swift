import HTTPTransport
import PluginAPI

let plugin = PluginEntry(HTTPTransport.self, id: "org.backplane.http", version: "0.1.0") {
  HTTPTransport.create($0, $1, $2)
}

@c(backplane_plugin_v1)
public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
