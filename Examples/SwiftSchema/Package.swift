// swift-tools-version: 6.2
import PackageDescription

// Where Backplane's PluginAPI package is. The tree that this was made with, unless the environment says otherwise.
let pluginAPI = Context.environment["BACKPLANE_PLUGIN_API"] ?? "../../Sources/PluginAPI"

// The entry symbol alone is exported, an undefined symbol is an error when linking instead of when loading, and the
// image stays mapped: a Swift image is not safe to unmap.
let linkerSettings: [LinkerSetting] = [
  .unsafeFlags([
    "-Xlinker", "--version-script=exports.map", "-Xlinker", "-z", "-Xlinker", "defs",
    "-Xlinker", "-z", "-Xlinker", "nodelete",
  ]),
  .unsafeFlags(["-Xlinker", "-s"], .when(configuration: .release)),
]

let package = Package(
  name: "swift-schema",
  products: [.library(name: "swift-schema", type: .dynamic, targets: ["SwiftSchema"])],
  dependencies: [.package(name: "PluginAPI", path: pluginAPI)],
  targets: [
    .target(
      name: "SwiftSchemaManifest", dependencies: [.product(name: "BackplaneABI", package: "PluginAPI")],
      exclude: ["manifest.json"], cSettings: [.headerSearchPath(".")]),
    .target(
      name: "SwiftSchema", dependencies: ["SwiftSchemaManifest", .product(name: "PluginAPI", package: "PluginAPI")],
      linkerSettings: linkerSettings),
    .testTarget(
      name: "SwiftSchemaTests",
      dependencies: [
        "SwiftSchema", .product(name: "PluginAPI", package: "PluginAPI"),
        .product(name: "PluginTestHost", package: "PluginAPI"),
      ]),
  ]
)
