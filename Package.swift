// swift-tools-version: 6.2
import PackageDescription

// Every plugin is a dynamic library that exports the entry symbol alone: the version script hides the rest (one
// generation must never bind to another's symbols), `defs` refuses an undefined symbol at link time instead of at
// load time, and `nodelete` keeps the image mapped (a Swift image is not safe to unmap).
let pluginLinkerSettings: [LinkerSetting] = [
  .unsafeFlags([
    "-Xlinker", "--version-script=Sources/PluginAPI/exports.map",
    "-Xlinker", "-z", "-Xlinker", "defs",
    "-Xlinker", "-z", "-Xlinker", "nodelete",
  ]),
  .unsafeFlags(["-Xlinker", "-s"], .when(configuration: .release)),
]

let swift6: [SwiftSetting] = [.swiftLanguageMode(.v6)]

/// The targets of one bundled plugin: `<Name>Manifest` (a C file that carries manifest.json as an ELF note),
/// `<Name>` (the logic, unit-tested) and `<Name>Plugin` (the entry symbol alone: a test may link only one of those).
func plugin(_ name: String, at path: String, dependencies: [Target.Dependency]) -> [Target] {
  [
    .target(
      name: "\(name)Manifest", dependencies: [.product(name: "BackplaneABI", package: "PluginAPI")],
      path: "\(path)/Manifest", publicHeadersPath: "include", cSettings: [.headerSearchPath(".")]),
    .target(
      name: name, dependencies: [.product(name: "PluginAPI", package: "PluginAPI")] + dependencies,
      path: "\(path)/Core", swiftSettings: swift6),
    .target(
      name: "\(name)Plugin",
      dependencies: [.target(name: name), .target(name: "\(name)Manifest")],
      path: "\(path)/Entry", swiftSettings: swift6, linkerSettings: pluginLinkerSettings),
  ]
}

let package = Package(
  name: "backplane",
  products: [
    .library(name: "backplane-transport-http", type: .dynamic, targets: ["HTTPTransportPlugin"])
  ],
  dependencies: [
    .package(path: "Sources/PluginAPI"),
    // No traits: the layers are read by us (YAML through Yams) and handed over in memory.
    .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: []),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    .target(name: "JSONText", path: "Libraries/JSONText", swiftSettings: swift6),
    .target(name: "URIText", path: "Libraries/URIText", swiftSettings: swift6),
    .target(
      name: "ICUShim", path: "Libraries/ICUShim",
      linkerSettings: [.linkedLibrary("icui18n"), .linkedLibrary("icuuc")]),
    .target(name: "ListQuery", dependencies: ["ICUShim"], path: "Libraries/ListQuery", swiftSettings: swift6),
    .target(name: "SystemShims", path: "Sources/SystemShims"),
    .systemLibrary(
      name: "SodiumShim", path: "Libraries/SodiumShim", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
    .target(
      name: "Kernel",
      dependencies: [
        "URIText", "ListQuery", "SystemShims", "SodiumShim", .product(name: "BackplaneABI", package: "PluginAPI"),
        .product(name: "Configuration", package: "swift-configuration"), .product(name: "Yams", package: "Yams"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Kernel", swiftSettings: swift6),
    .executableTarget(
      name: "backplane",
      dependencies: [
        "Kernel", .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ],
      path: "Sources/backplane", swiftSettings: swift6),
    .testTarget(name: "JSONTextTests", dependencies: ["JSONText"], swiftSettings: swift6),
    .testTarget(name: "URITextTests", dependencies: ["URIText"], swiftSettings: swift6),
    .testTarget(name: "ListQueryTests", dependencies: ["ListQuery", "URIText"], swiftSettings: swift6),
    .testTarget(
      name: "PluginAPITests", dependencies: [.product(name: "PluginAPI", package: "PluginAPI")],
      swiftSettings: swift6),
    .testTarget(name: "KernelTests", dependencies: ["Kernel"], swiftSettings: swift6),
    .testTarget(
      name: "CommandLineTests",
      dependencies: [
        "backplane", .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ], swiftSettings: swift6),
    .testTarget(name: "HTTPTransportTests", dependencies: ["HTTPTransport", "URIText"], swiftSettings: swift6),
  ]
    + [.target(name: "HTTPShims", path: "Plugins/Transports/HTTP/Shims")]
    + plugin(
      "HTTPTransport", at: "Plugins/Transports/HTTP",
      dependencies: [
        "HTTPShims", "JSONText", "URIText", .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
      ])
)
