import FilesBackend
import PluginAPI

let plugin = PluginEntry(FilesBackend.self, id: "org.backplane.files", version: "0.1.0") {
  FilesBackend.create($0, $1, $2)
}

@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
