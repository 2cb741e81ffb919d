// swift-tools-version: 6.2
import PackageDescription

// All that a plugin author needs, with no dependencies: the C headers (BackplaneABI), the Swift face (PluginAPI)
// and a host for tests (PluginTestHost).
let package = Package(
  name: "PluginAPI",
  products: [
    .library(name: "BackplaneABI", targets: ["BackplaneABI"]),
    .library(name: "PluginAPI", targets: ["PluginAPI"]),
    .library(name: "PluginTestHost", targets: ["PluginTestHost"]),
  ],
  targets: [
    .target(name: "BackplaneABI", path: "ABI"),
    .target(name: "PluginAPI", dependencies: ["BackplaneABI"], path: "API", swiftSettings: [.swiftLanguageMode(.v6)]),
    // A host for unit-testing a plugin without the kernel.
    .target(
      name: "PluginTestHost", dependencies: ["PluginAPI"], path: "TestHost", swiftSettings: [.swiftLanguageMode(.v6)]),
  ]
)
