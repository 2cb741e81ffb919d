/// What a plugin in Swift has beside its code, with `{{...}}` for what is its own.
enum SwiftPackageTemplate {
  /// Package.swift.
  static let package =
    ##"""
    // swift-tools-version: 6.2
    import PackageDescription

    // Where Backplane's PluginAPI package is. The tree that this was made with, unless the environment says otherwise.
    let pluginAPI = Context.environment["BACKPLANE_PLUGIN_API"] ?? "{{pluginAPI}}"

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
      name: "{{slug}}",
      products: [.library(name: "{{slug}}", type: .dynamic, targets: ["{{Module}}"])],
      dependencies: [.package(name: "PluginAPI", path: pluginAPI)],
      targets: [
        .target(
          name: "{{Module}}Manifest", dependencies: [.product(name: "BackplaneABI", package: "PluginAPI")],
          exclude: ["manifest.json"], cSettings: [.headerSearchPath(".")]),
        .target(
          name: "{{Module}}", dependencies: ["{{Module}}Manifest", .product(name: "PluginAPI", package: "PluginAPI")],
          linkerSettings: linkerSettings),
        .testTarget(
          name: "{{Module}}Tests",
          dependencies: [
            "{{Module}}", .product(name: "PluginAPI", package: "PluginAPI"),
            .product(name: "PluginTestHost", package: "PluginAPI"),
          ]),
      ]
    )

    """##

  /// manifest.c.
  static let manifestCode =
    ##"""
    #include <backplane/manifest.h>

    // Asked for so that the compiler knows of the file and an edit of it builds this again.
    #if !__has_include("manifest.json")
    #error "manifest.json is missing; it belongs beside manifest.c."
    #endif

    BACKPLANE_MANIFEST("manifest.json")

    """##

  /// .gitignore.
  static let ignore =
    ##"""
    .build/
    Package.resolved

    """##
}
