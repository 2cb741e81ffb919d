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
  name: "swift-service",
  products: [.library(name: "swift-service", type: .dynamic, targets: ["SwiftService"])],
  dependencies: [.package(name: "PluginAPI", path: pluginAPI)],
  targets: [
    .target(
      name: "SwiftServiceManifest", dependencies: [.product(name: "BackplaneABI", package: "PluginAPI")],
      exclude: ["manifest.json"], cSettings: [.headerSearchPath(".")]),
    .target(
      name: "SwiftService", dependencies: ["SwiftServiceManifest", .product(name: "PluginAPI", package: "PluginAPI")],
      linkerSettings: linkerSettings),
    .testTarget(
      name: "SwiftServiceTests",
      dependencies: [
        "SwiftService", .product(name: "PluginAPI", package: "PluginAPI"),
        .product(name: "PluginTestHost", package: "PluginAPI"),
      ]),
  ]
)
