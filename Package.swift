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
    "-Xlinker", "-s",
  ])
]

let swift6: [SwiftSetting] = [.swiftLanguageMode(.v6)]

let pluginAPI: Target.Dependency = .product(name: "PluginAPI", package: "PluginAPI")
let pluginTestHost: Target.Dependency = .product(name: "PluginTestHost", package: "PluginAPI")
let boundary: Target.Dependency = .product(name: "BackplaneABI", package: "PluginAPI")
let nio: [Target.Dependency] = ["NIOCore", "NIOPosix", "NIOHTTP1"].map { .product(name: $0, package: "swift-nio") }

let crypto: [Target.Dependency] = ["Crypto", "CryptoExtras"].map { .product(name: $0, package: "swift-crypto") }
let asyncHTTPClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let nioHTTP2: [Target.Dependency] = [
  .product(name: "NIOHTTP2", package: "swift-nio-http2"), .product(name: "NIOHPACK", package: "swift-nio-http2"),
  .product(name: "NIOTLS", package: "swift-nio"),
]

/// The targets of one bundled plugin: `<Name>Manifest` (a C file that carries manifest.json as an ELF note),
/// `<Name>` (the logic, unit-tested) and `<Name>Plugin` (the entry symbol alone: a test may link only one of those).
func plugin(_ name: String, at path: String, dependencies: [Target.Dependency]) -> [Target] {
  [
    .target(
      name: "\(name)Manifest", dependencies: [boundary], path: "\(path)/Manifest", publicHeadersPath: "include",
      cSettings: [.headerSearchPath(".")]),
    .target(name: name, dependencies: [pluginAPI] + dependencies, path: "\(path)/Core", swiftSettings: swift6),
    .target(
      name: "\(name)Plugin", dependencies: [.target(name: name), .target(name: "\(name)Manifest"), pluginAPI],
      path: "\(path)/Entry", swiftSettings: swift6, linkerSettings: pluginLinkerSettings),
  ]
}

/// The shared library of a bundled plugin; scripts/build puts it into plugins.d.
func pluginLibrary(_ file: String, _ name: String) -> Product {
  .library(name: file, type: .dynamic, targets: ["\(name)Plugin"])
}

let libraries: [Target] = [
  .target(name: "JSONText", path: "Libraries/JSONText", swiftSettings: swift6),
  .target(name: "URIText", path: "Libraries/URIText", swiftSettings: swift6),
  .target(
    name: "ICUShim", path: "Libraries/ICUShim", linkerSettings: [.linkedLibrary("icui18n"), .linkedLibrary("icuuc")]),
  .target(name: "ListQuery", dependencies: ["ICUShim"], path: "Libraries/ListQuery", swiftSettings: swift6),
  .systemLibrary(
    name: "SodiumShim", path: "Libraries/SodiumShim", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
  .target(
    name: "MessageCrypto", dependencies: ["JSONText", "SodiumShim"], path: "Libraries/MessageCrypto",
    swiftSettings: swift6),
  // JSON Schema: valijson over nlohmann-json, both header-only C++.
  .target(
    name: "ValijsonShim", dependencies: ["ICUShim"], path: "Libraries/ValijsonShim",
    cxxSettings: [.unsafeFlags(["-std=c++17", "-fvisibility=hidden", "-fvisibility-inlines-hidden"])]),
  // Apart from the signatures, so that a schema that verifies them does not carry BoringSSL.
  .target(
    name: "MessageEncryption", dependencies: ["MessageCrypto", "JSONText"] + crypto,
    path: "Libraries/MessageEncryption", swiftSettings: swift6),
  .target(
    name: "ComposeText", dependencies: ["MessageCrypto"], path: "Libraries/ComposeText", swiftSettings: swift6),
  // The documents by which a node is managed: what the service and the operator's commands share.
  .target(
    name: "ManagedNode", dependencies: ["JSONText", "MessageCrypto", "MessageEncryption"],
    path: "Libraries/ManagedNode", swiftSettings: swift6),
]

let kernel: [Target] = [
  .target(name: "SystemShims", path: "Sources/SystemShims"),
  // What the kernel and a plugin in a child process say to each other. No Foundation, here and in the child: it would
  // double the time that a child takes to be there.
  .target(
    name: "IsolationWire", dependencies: ["SystemShims", boundary], path: "Sources/IsolationWire",
    swiftSettings: swift6),
  .executableTarget(
    name: "backplane-host", dependencies: ["IsolationWire", "URIText", "SystemShims", boundary],
    path: "Sources/backplane-host", swiftSettings: swift6),
  .target(
    name: "Kernel",
    dependencies: [
      "URIText", "ListQuery", "SystemShims", "IsolationWire", "SodiumShim", boundary,
      .product(name: "Crypto", package: "swift-crypto"),
      .product(name: "Configuration", package: "swift-configuration"), .product(name: "Yams", package: "Yams"),
      .product(name: "Logging", package: "swift-log"),
    ],
    path: "Sources/Kernel", swiftSettings: swift6),
  .executableTarget(
    name: "backplane",
    dependencies: [
      pluginAPI, pluginTestHost,
      "Kernel", "Conformance", "JSONText", "MessageCrypto", "MessageEncryption", "RuleBook", "ComposeText",
      "ManagedNode", "SystemShims",
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ]
      + nio,
    path: "Sources/backplane", swiftSettings: swift6),
]

let backends: [Target] =
  [
    .target(
      name: "BackendSupport", dependencies: [pluginAPI], path: "Plugins/Backends/Support", swiftSettings: swift6),
    .systemLibrary(
      name: "CSQLite", path: "Plugins/Backends/SQLite/CSQLite", pkgConfig: "sqlite3",
      providers: [.apt(["libsqlite3-dev"])]),
    .systemLibrary(
      name: "CPostgreSQL", path: "Plugins/Backends/PostgreSQL/CPostgreSQL", pkgConfig: "libpq",
      providers: [.apt(["libpq-dev"])]),
    .systemLibrary(
      name: "CMongoC", path: "Plugins/Backends/MongoDB/CMongoC", pkgConfig: "libmongoc-1.0",
      providers: [.apt(["libmongoc-dev"])]),
  ]
  + plugin("MemoryBackend", at: "Plugins/Backends/Memory", dependencies: ["BackendSupport"])
  + [.target(name: "FilesShims", path: "Plugins/Backends/Files/Shims")]
  + plugin("FilesBackend", at: "Plugins/Backends/Files", dependencies: ["BackendSupport", "FilesShims"])
  + plugin("SQLiteBackend", at: "Plugins/Backends/SQLite", dependencies: ["BackendSupport", "CSQLite"])
  + plugin(
    "HTTPBackend", at: "Plugins/Backends/HTTP",
    dependencies: ["BackendSupport", "ICUShim", "JSONText", "URIText", asyncHTTPClient, nioTLS] + nio)
  + plugin(
    "PostgreSQLBackend", at: "Plugins/Backends/PostgreSQL",
    dependencies: ["BackendSupport", "CPostgreSQL", "JSONText", "SodiumShim"])
  + plugin(
    "MongoDBBackend", at: "Plugins/Backends/MongoDB", dependencies: ["BackendSupport", "JSONText", "CMongoC"])

let schemas: [Target] =
  [
    .target(
      name: "SchemaSupport", dependencies: ["JSONText", "MessageCrypto", pluginAPI], path: "Plugins/Schemas/Support",
      swiftSettings: swift6)
  ]
  + plugin(
    "PermissiveSchema", at: "Plugins/Schemas/Permissive", dependencies: ["SchemaSupport", "JSONText", "URIText"])
  + plugin(
    "B3ndSchema", at: "Plugins/Schemas/B3nd", dependencies: ["SchemaSupport", "MessageCrypto", "JSONText", "URIText"])
  + [
    // What the rules plugin judges by; `backplane schema check` explains with it.
    .target(
      name: "RuleBook",
      dependencies: ["ICUShim", "JSONText", "MessageCrypto", "SchemaSupport", "URIText", "ValijsonShim", pluginAPI],
      path: "Libraries/RuleBook", swiftSettings: swift6)
  ]
  + plugin("RulesSchema", at: "Plugins/Schemas/Rules", dependencies: ["RuleBook", "SchemaSupport"])

let transports: [Target] =
  [
    .target(name: "TransportShims", path: "Plugins/Transports/Support/Shims"),
    .target(
      name: "TransportSupport", dependencies: ["TransportShims", "JSONText", pluginAPI] + nio,
      path: "Plugins/Transports/Support", exclude: ["Shims"], swiftSettings: swift6),
  ]
  + plugin(
    "HTTPTransport", at: "Plugins/Transports/HTTP",
    dependencies: [
      "TransportSupport", "TransportShims", "WebSocketTransport", "JSONText", "URIText", "SodiumShim", nioTLS,
    ] + nioHTTP2 + nio)
  // The protocol is a library of the HTTP transport's, whose port it shares. On a port of its own it is that transport
  // with no other route.
  + [
    .target(
      name: "WebSocketTransport", dependencies: ["TransportSupport", "JSONText", pluginAPI, nioWebSocket] + nio,
      path: "Plugins/Transports/WebSocket/Core", swiftSettings: swift6),
    .target(
      name: "WebSocketTransportManifest", dependencies: [boundary], path: "Plugins/Transports/WebSocket/Manifest",
      publicHeadersPath: "include", cSettings: [.headerSearchPath(".")]),
    .target(
      name: "WebSocketTransportPlugin",
      dependencies: ["HTTPTransport", pluginAPI, .target(name: "WebSocketTransportManifest")],
      path: "Plugins/Transports/WebSocket/Entry", swiftSettings: swift6, linkerSettings: pluginLinkerSettings),
  ]

let services: [Target] = plugin(
  "ManagedService", at: "Plugins/Services/Managed",
  dependencies: ["ManagedNode", "MessageCrypto", "JSONText", asyncHTTPClient, nioTLS] + nio)

// A product too: `backplane plugin check` runs it.
let conformance: [Target] = [
  .target(name: "HeapShim", path: "Tests/HeapShim"),
  .target(
    name: "Conformance", dependencies: ["ListQuery", "HeapShim", pluginAPI, pluginTestHost], path: "Tests/Conformance",
    // The optimiser of Swift 6.3.1 crashes while it splits the coroutine of TransportChecks.run.
    swiftSettings: swift6 + [.unsafeFlags(["-Onone"], .when(configuration: .release))]),
  .testTarget(
    name: "ConformanceTests",
    dependencies: [
      "Conformance", "backplane", "MongoWireServer", "NodeTesting", "ServerTesting", pluginAPI, pluginTestHost,
    ], exclude: ["Toys"],
    swiftSettings: swift6),
]

let tests: [Target] = [
  // Golden data recorded on the reference implementation.
  .target(name: "VectorTesting", path: "Tests/VectorTesting", swiftSettings: swift6),
  .testTarget(name: "JSONTextTests", dependencies: ["JSONText"], swiftSettings: swift6),
  .testTarget(
    name: "MessageCryptoTests", dependencies: ["VectorTesting", "MessageCrypto", "JSONText"], swiftSettings: swift6),
  .testTarget(
    name: "MessageEncryptionTests", dependencies: ["VectorTesting", "MessageEncryption", "MessageCrypto", "JSONText"],
    swiftSettings: swift6),
  .testTarget(
    name: "ComposeTextTests",
    dependencies: ["VectorTesting", "ComposeText", "MessageCrypto", .product(name: "Yams", package: "Yams")],
    swiftSettings: swift6),
  .testTarget(
    name: "ManagedNodeTests",
    dependencies: ["VectorTesting", "ManagedNode", "MessageEncryption", "MessageCrypto", "JSONText"],
    swiftSettings: swift6),
  .testTarget(name: "URITextTests", dependencies: ["VectorTesting", "URIText"], swiftSettings: swift6),
  .testTarget(name: "ListQueryTests", dependencies: ["VectorTesting", "ListQuery", "URIText"], swiftSettings: swift6),
  .testTarget(name: "PluginAPITests", dependencies: [pluginAPI, pluginTestHost], swiftSettings: swift6),
  // Hosts a plugin file in a child process for BoundaryTrial; no product.
  .executableTarget(
    name: "boundary-trial-child", dependencies: [pluginAPI, pluginTestHost], path: "Tests/BoundaryTrialChild",
    swiftSettings: swift6),
  .testTarget(
    name: "BoundaryTrial", dependencies: [pluginAPI, pluginTestHost, "boundary-trial-child"],
    path: "Tests/BoundaryTrial", exclude: ["Toys/C"], swiftSettings: swift6),
  .testTarget(name: "KernelTests", dependencies: [boundary, "Kernel"], swiftSettings: swift6),
  .testTarget(
    name: "IsolationTests", dependencies: ["SystemShims", "IsolationWire", "Kernel", "backplane-host", boundary],
    swiftSettings: swift6),
  .testTarget(name: "KernelWalkTests", dependencies: ["Kernel", "SystemShims", boundary], swiftSettings: swift6),
  .testTarget(
    name: "CommandLineTests", dependencies: ["VectorTesting", "backplane", "NodeTesting"] + nio, swiftSettings: swift6),
  .testTarget(
    name: "PermissiveSchemaTests",
    dependencies: ["VectorTesting", pluginAPI, "PermissiveSchema", "JSONText", "URIText", pluginTestHost],
    swiftSettings: swift6),
  .testTarget(
    name: "B3ndSchemaTests",
    dependencies: [
      "VectorTesting", "B3ndSchema", "SchemaSupport", "MessageCrypto", "JSONText", "URIText", pluginTestHost,
    ],
    swiftSettings: swift6),
  .testTarget(
    name: "RulesTests",
    dependencies: ["RulesSchema", "RuleBook", "MessageCrypto", "ICUShim", "URIText", pluginTestHost],
    swiftSettings: swift6),
  .testTarget(
    name: "HTTPTransportTests",
    dependencies: ["HTTPTransport", "TransportSupport", "NodeTesting", "TLSTesting", "URIText", pluginAPI] + nioHTTP2
      + nio,
    swiftSettings: swift6),
  .testTarget(
    name: "WebSocketTransportTests",
    dependencies: [
      "HTTPTransport", "WebSocketTransport", "JSONText", "NodeTesting", "TransportSupport", pluginAPI, pluginTestHost,
    ], swiftSettings: swift6),
  // An HTTP server that means no good.
  .target(name: "HostileTesting", dependencies: nio, path: "Tests/HostileTesting", swiftSettings: swift6),
  .testTarget(
    name: "ManagedServiceTests",
    dependencies: [
      "VectorTesting", "HostileTesting", "ManagedService", "ManagedNode", "MessageCrypto",
      "JSONText", pluginAPI, nioTLS,
    ] + nio, swiftSettings: swift6),
  .target(
    name: "BackendTesting", dependencies: ["BackendSupport", pluginAPI], path: "Tests/BackendTesting",
    swiftSettings: swift6),
  // What tests of backends that talk to a server need: servers of their own, and a proxy that breaks connections.
  .target(
    name: "ServerTesting", dependencies: ["CPostgreSQL", pluginAPI, pluginTestHost], path: "Tests/ServerTesting",
    swiftSettings: swift6),
  .testTarget(name: "ServerTestingTests", dependencies: ["ServerTesting"], swiftSettings: swift6),
  // Speaks MongoDB's wire protocol for the tests of that backend.
  .target(
    name: "MongoWireServer", dependencies: ["CMongoC", "JSONText", "SodiumShim"], path: "Tests/MongoWireServer",
    swiftSettings: swift6),
  .testTarget(
    name: "MongoDBBackendTests",
    dependencies: [
      "BackendSupport", pluginAPI, "MongoDBBackend", "MongoWireServer", "BackendTesting", "Conformance", "JSONText",
    ],
    swiftSettings: swift6),
  .testTarget(
    name: "MemoryBackendTests",
    dependencies: ["BackendSupport", pluginAPI, "MemoryBackend", "BackendTesting", pluginTestHost],
    swiftSettings: swift6
  ),
  .testTarget(
    name: "HTTPBackendTests",
    dependencies: ["HTTPBackend", "BackendTesting", "BackendSupport", pluginAPI, nioTLS] + nio,
    swiftSettings: swift6),
  .testTarget(
    name: "SQLiteBackendTests",
    dependencies: ["BackendSupport", pluginAPI, "SQLiteBackend", "MemoryBackend", "BackendTesting"],
    swiftSettings: swift6),
  .testTarget(
    name: "PostgreSQLBackendTests",
    dependencies: [
      "BackendSupport", pluginAPI, "PostgreSQLBackend", "BackendTesting", "ServerTesting", "PostgreSQLCrashWriter",
    ],
    swiftSettings: swift6),
  .executableTarget(
    name: "PostgreSQLCrashWriter", dependencies: [pluginAPI, "PostgreSQLBackend", "BackendTesting"],
    path: "Tests/PostgreSQLCrashWriter", swiftSettings: swift6),
  .testTarget(
    name: "FilesBackendTests",
    dependencies: ["BackendSupport", pluginAPI, "FilesBackend", "BackendTesting", "BackendCrashWriter"],
    swiftSettings: swift6),
  .executableTarget(
    name: "BackendCrashWriter", dependencies: [pluginAPI, "SQLiteBackend", "FilesBackend", "BackendTesting"],
    path: "Tests/BackendCrashWriter", swiftSettings: swift6),
]

// Reloads under fire, without threads and time of the machine's: the linker hands those over to the simulation. Without
// `SIMULATION`, as in a release build, there is nothing in it: the kernel's insides are not to be seen then.
let simulation: [Target] = [
  .target(name: "SimulatedSystem", path: "Tests/Simulator/System"),
  .executableTarget(
    name: "simulator", dependencies: ["Kernel", "SimulatedSystem", boundary], path: "Tests/Simulator",
    exclude: ["System"], swiftSettings: swift6 + [.define("SIMULATION", .when(configuration: .debug))],
    linkerSettings: [
      .unsafeFlags(
        [
          "clock_gettime", "usleep", "pthread_create", "pthread_join", "pthread_detach", "pthread_setname_np",
          "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_signal", "pthread_cond_broadcast",
        ].flatMap { ["-Xlinker", "--wrap=\($0)"] })
    ]),
  .testTarget(
    name: "SimulationTests", dependencies: ["simulator"], path: "Tests/SimulationTests", swiftSettings: swift6),
]

// Tests of a whole node: the built executable with the bundled plugins, as a user would run it.
let nodeTests: [Target] = [
  .target(name: "NodeTesting", path: "Tests/NodeTesting", swiftSettings: swift6),
  // A client that speaks TLS and HTTP/2, and certificates to try it with.
  .target(
    name: "TLSTesting", dependencies: ["NodeTesting", nioTLS] + nioHTTP2 + nio, path: "Tests/TLSTesting",
    swiftSettings: swift6),
  .testTarget(
    name: "NodeHTTPTests", dependencies: ["NodeTesting", "TLSTesting", "backplane", "backplane-host"],
    swiftSettings: swift6),
  .testTarget(
    name: "NodeTLSTests",
    dependencies: ["NodeTesting", "TLSTesting", "backplane", "backplane-host"], swiftSettings: swift6),
  .testTarget(
    name: "NodeIsolationTests", dependencies: ["NodeTesting", "backplane", "backplane-host"], exclude: ["Plugins"],
    swiftSettings: swift6),
  .testTarget(
    name: "NodeServiceTests", dependencies: ["NodeTesting", "backplane", "backplane-host"], exclude: ["Plugins"],
    swiftSettings: swift6),
  .testTarget(
    name: "NodeProposalTests", dependencies: ["NodeTesting", "backplane", "backplane-host"], swiftSettings: swift6),
  .testTarget(
    name: "NodeWebSocketTests", dependencies: ["NodeTesting", "backplane"], swiftSettings: swift6),
  .testTarget(
    name: "NodeReloadTests", dependencies: ["NodeTesting", "backplane"], swiftSettings: swift6),
  .testTarget(
    name: "ServerFaultTests",
    dependencies: [
      "ServerTesting", "MongoWireServer", "NodeTesting", "PostgreSQLBackend", "MongoDBBackend", "HTTPBackend",
      "backplane", pluginAPI, pluginTestHost,
    ], swiftSettings: swift6),
  .testTarget(
    name: "NodeB3ndTests", dependencies: ["NodeTesting", "MessageCrypto", "JSONText", "backplane"],
    exclude: ["Plugins"], swiftSettings: swift6),
  .testTarget(
    name: "NodeRulesTests", dependencies: ["NodeTesting", "MessageCrypto", "backplane", "backplane-host"],
    swiftSettings: swift6),
  .testTarget(
    name: "NodeHTTPBackendTests", dependencies: ["NodeTesting", "backplane"], swiftSettings: swift6),
  .testTarget(
    name: "NodePeerTests", dependencies: ["NodeTesting", "backplane", "backplane-host"], swiftSettings: swift6),
  .testTarget(
    name: "NodeMongoDBTests", dependencies: ["NodeTesting", "MongoWireServer", "backplane"], swiftSettings: swift6),
  .testTarget(
    name: "NodeCompositionTests", dependencies: ["NodeTesting", "ServerTesting", "backplane"], swiftSettings: swift6),
  .testTarget(
    name: "NodeManagedTests",
    dependencies: [
      "NodeTesting", "HostileTesting", "ManagedNode", "MessageCrypto", "JSONText", "backplane", "backplane-host",
    ],
    swiftSettings: swift6),
  .testTarget(
    name: "NodeNetworkTests",
    dependencies: ["NodeTesting", "ServerTesting", "MessageCrypto", "backplane", "backplane-host"],
    swiftSettings: swift6),
  .testTarget(name: "UpgradeTests", dependencies: ["NodeTesting", "backplane"], swiftSettings: swift6),
  .testTarget(name: "PitfallTests", dependencies: ["NodeTesting", "backplane"], swiftSettings: swift6),
  .testTarget(
    name: "NodeCrashTests", dependencies: ["NodeTesting", "backplane", "backplane-host"], exclude: ["Plugins"],
    swiftSettings: swift6),
  .testTarget(name: "ExamplesTests", dependencies: ["NodeTesting", "backplane"], swiftSettings: swift6),
]

let benchmarks: [Target] = [
  .executableTarget(
    name: "BackendBenchmark",
    dependencies: [
      "BackendSupport", pluginAPI,
      "MemoryBackend", "SQLiteBackend", "FilesBackend", "BackendTesting", "CSQLite", pluginTestHost,
    ],
    path: "Benchmarks/Backends", swiftSettings: swift6),
  .executableTarget(
    name: "PostgreSQLBenchmark",
    dependencies: ["PostgreSQLBackend", "BackendTesting", "ServerTesting", "CPostgreSQL", pluginAPI],
    path: "Benchmarks/PostgreSQL", swiftSettings: swift6),
  .executableTarget(
    name: "JSONBenchmark", dependencies: ["JSONText"], path: "Benchmarks/JSON", exclude: ["peers.cpp"],
    swiftSettings: swift6),
  .executableTarget(name: "BareServer", dependencies: nio, path: "Benchmarks/BareServer", swiftSettings: swift6),
  .executableTarget(
    name: "SignatureBenchmark", dependencies: ["MessageCrypto", "SodiumShim"], path: "Benchmarks/Signatures",
    swiftSettings: swift6),
  .executableTarget(name: "WebSocketBenchmark", path: "Benchmarks/WebSocket", swiftSettings: swift6),
  .executableTarget(name: "OpenLoop", path: "Benchmarks/OpenLoop", swiftSettings: swift6),
  .executableTarget(
    name: "BoundaryBenchmark", dependencies: ["Kernel"], path: "Benchmarks/Boundary", swiftSettings: swift6),
  .executableTarget(
    name: "FeedBenchmark", dependencies: ["Kernel"], path: "Benchmarks/Feed", swiftSettings: swift6),
  .executableTarget(
    name: "IsolationBenchmark", dependencies: ["Kernel"], path: "Benchmarks/Isolation",
    exclude: ["Plugin", "bare.c"], swiftSettings: swift6),
]

let package = Package(
  name: "backplane",
  products: [
    .executable(name: "backplane", targets: ["backplane"]),
    .executable(name: "backplane-host", targets: ["backplane-host"]),
    pluginLibrary("backplane-backend-memory", "MemoryBackend"),
    pluginLibrary("backplane-backend-sqlite", "SQLiteBackend"),
    pluginLibrary("backplane-backend-http", "HTTPBackend"),
    pluginLibrary("backplane-backend-postgresql", "PostgreSQLBackend"),
    pluginLibrary("backplane-backend-files", "FilesBackend"),
    pluginLibrary("backplane-backend-mongodb", "MongoDBBackend"),
    pluginLibrary("backplane-schema-permissive", "PermissiveSchema"),
    pluginLibrary("backplane-schema-rules", "RulesSchema"),
    pluginLibrary("backplane-schema-b3nd", "B3ndSchema"),
    pluginLibrary("backplane-transport-http", "HTTPTransport"),
    pluginLibrary("backplane-transport-websocket", "WebSocketTransport"),
    pluginLibrary("backplane-service-managed", "ManagedService"),
  ],
  dependencies: [
    .package(path: "Sources/PluginAPI"),
    // No traits: the layers are read by us (YAML through Yams) and handed over in memory.
    .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: []),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
  ],
  targets: libraries + kernel + backends + schemas + transports + services + conformance + tests + simulation
    + nodeTests
    + benchmarks
)
