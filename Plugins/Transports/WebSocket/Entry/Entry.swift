import HTTPTransport
import PluginAPI

let plugin = PluginEntry(WebSocketPortTransport.self, id: "org.backplane.websocket", version: "0.1.0") {
  WebSocketPortTransport.create($0, $1, $2)
}

@c(backplane_plugin_v1)
public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
