// swift-tools-version: 6.2
import PackageDescription

// All that a plugin author needs, with no dependencies: the C headers (BackplaneABI) and the Swift face (PluginAPI).
let package = Package(
  name: "PluginAPI",
  products: [
    .library(name: "BackplaneABI", targets: ["BackplaneABI"]),
    .library(name: "PluginAPI", targets: ["PluginAPI"]),
  ],
  targets: [
    .target(name: "BackplaneABI", path: "ABI"),
    .target(name: "PluginAPI", dependencies: ["BackplaneABI"], path: "API", swiftSettings: [.swiftLanguageMode(.v6)]),
  ]
)
