import B3ndSchema
import MessageCrypto
import PluginAPI
import PluginTestHost
import Testing
import URIText

let entry = PluginEntry(B3nd.self, id: "org.backplane.b3nd", version: "0.1.0") { B3nd.create($0, $1, $2) }
