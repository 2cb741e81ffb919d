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
  products: [],
  dependencies: [
    .package(path: "Sources/PluginAPI")
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
        "URIText", "SystemShims", "SodiumShim", .product(name: "BackplaneABI", package: "PluginAPI"),
      ],
      path: "Sources/Kernel", swiftSettings: swift6),
    .testTarget(name: "JSONTextTests", dependencies: ["JSONText"], swiftSettings: swift6),
    .testTarget(name: "URITextTests", dependencies: ["URIText"], swiftSettings: swift6),
    .testTarget(name: "ListQueryTests", dependencies: ["ListQuery", "URIText"], swiftSettings: swift6),
    .testTarget(
      name: "PluginAPITests", dependencies: [.product(name: "PluginAPI", package: "PluginAPI")],
      swiftSettings: swift6),
    .executableTarget(
      name: "boundary-trial-child",
      dependencies: [
        .product(name: "PluginAPI", package: "PluginAPI"), .product(name: "PluginTestHost", package: "PluginAPI"),
      ],
      path: "Tests/BoundaryTrialChild", swiftSettings: swift6),
    .testTarget(
      name: "BoundaryTrial",
      dependencies: [
        .product(name: "PluginAPI", package: "PluginAPI"), .product(name: "PluginTestHost", package: "PluginAPI"),
        "boundary-trial-child",
      ],
      path: "Tests/BoundaryTrial", exclude: ["Toys/C"], swiftSettings: swift6),
    .testTarget(name: "KernelTests", dependencies: ["Kernel"], swiftSettings: swift6),
  ]
)
