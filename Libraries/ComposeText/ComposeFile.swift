/// The compose file of a network: a config server, the databases that its nodes need, and the nodes.
public struct ComposeFile: Sendable {
  public static let configServerPort = 9900
  /// In the image; see the Dockerfile.
  public static let schemaFile = "/usr/lib/backplane/plugins.d/libbackplane-schema-b3nd.so"
  static let stateDirectory = "/var/lib/backplane"

  /// The operator's Ed25519 public key in hexadecimal.
  public var operatorPublicKey: String
  /// Where the image is built from; nil: the image is taken as it is.
  public var projectRoot: String?
  public var image: String
  /// What the config server keeps configurations in.
  public var configServerBackendURL: String

  public init(
    operatorPublicKey: String, projectRoot: String? = ".", image: String = "backplane:0.1.0",
    configServerBackendURL: String = "sqlite://"
  ) {
    self.operatorPublicKey = operatorPublicKey
    self.projectRoot = projectRoot
    self.image = image
    self.configServerBackendURL = configServerBackendURL
  }

  /// The file's text. `network` has no problems.
  public func text(_ network: ComposeNetwork) -> String {
    let needsPostgreSQL = network.nodes.contains { $0.backendTypes.contains("postgresql") }
    let needsMongoDB = network.nodes.contains { $0.backendTypes.contains("mongodb") }
    var services: [(String, YAMLNode)] = [("config-server", configServer)]
    var volumes: [String] = []
    if needsPostgreSQL {
      services.append(("postgres", Self.postgreSQL))
      volumes.append("pgdata")
    }
    if needsMongoDB {
      services.append(("mongo", Self.mongoDB))
      volumes.append("mongodata")
    }
    volumes.append("config-server-state")
    for node in network.nodes {
      services.append((node.serviceName, service(node)))
      volumes.append("\(node.serviceName)-state")
    }
    return YAMLNode.mapping([
      ("version", .text("3.8")), ("services", .mapping(services)),
      ("volumes", .mapping(volumes.map { ($0, .mapping([])) })),
    ]).text
  }

  private var configServer: YAMLNode {
    .mapping(
      source + [
        ("ports", .list([.text("\(Self.configServerPort):\(Self.configServerPort)")])),
        (
          "environment",
          .mapping([
            ("BACKEND_URL", .text(configServerBackendURL)), ("SCHEMA_MODULE", .text(Self.schemaFile)),
            ("PORT", .text("\(Self.configServerPort)")), ("CORS_ORIGIN", .text("*")),
          ])
        ),
      ] + Self.confinement(volume: "config-server-state"))
  }

  private func service(_ node: ComposeNetwork.Node) -> YAMLNode {
    var environment: [(String, YAMLNode)] = [
      ("PORT", .text("\(node.port)")), ("CORS_ORIGIN", .text(node.corsOrigin)), ("BACKEND_URL", .text("memory://")),
      ("NODE_ID", .text(node.publicKey)),
      ("NODE_PRIVATE_KEY_PEM", .variables("${\(node.privateKeyVariable)}")),
      ("OPERATOR_KEY", .text(operatorPublicKey)),
      ("CONFIG_URL", .text("http://config-server:\(Self.configServerPort)")),
      ("NODE_ENCRYPTION_PUBLIC_KEY_HEX", .text(node.encryptionPublicKey ?? "")),
    ]
    if node.encryptionPublicKey != nil {
      environment.append(("NODE_ENCRYPTION_PRIVATE_KEY_HEX", .variables("${\(node.encryptionKeyVariable)}")))
    }
    let operatorVariable = ComposeNetwork.operatorEncryptionKeyVariable
    environment.append((operatorVariable, .variables("${\(operatorVariable)}")))
    var needed = ["config-server"]
    if node.backendTypes.contains("postgresql") { needed.append("postgres") }
    if node.backendTypes.contains("mongodb") { needed.append("mongo") }
    return .mapping(
      source + [
        ("ports", .list([.text("\(node.port):\(node.port)")])), ("environment", .mapping(environment)),
        ("depends_on", .mapping(needed.map { ($0, .mapping([("condition", .text("service_healthy"))])) })),
      ] + Self.confinement(volume: "\(node.serviceName)-state"))
  }

  private var source: [(String, YAMLNode)] {
    guard let projectRoot else { return [("image", .text(image))] }
    return [("build", .mapping([("context", .text(projectRoot)), ("dockerfile", .text("Dockerfile"))]))]
  }

  /// What every container of ours is kept to: nothing of it can be written but its state and what is gone with it.
  private static func confinement(volume: String) -> [(String, YAMLNode)] {
    [
      ("healthcheck", healthCheck([.text("CMD"), .text("backplane"), .text("health")])),
      ("read_only", .flag(true)), ("tmpfs", .list([.text("/tmp"), .text("/run/backplane")])),
      ("volumes", .list([.text("\(volume):\(stateDirectory)")])),
      ("cap_drop", .list([.text("ALL")])), ("security_opt", .list([.text("no-new-privileges:true")])),
      // Longer than the node gives the requests that are running: it says that it is offline when they have ended.
      ("stop_grace_period", .text("60s")), ("restart", .text("unless-stopped")),
    ]
  }

  private static func healthCheck(_ test: [YAMLNode]) -> YAMLNode {
    .mapping([
      ("test", .list(test)), ("interval", .text("10s")), ("timeout", .text("5s")), ("retries", .number(3)),
      ("start_period", .text("30s")),
    ])
  }

  /// Databases are published on this machine alone: their password is no secret.
  private static let postgreSQL = YAMLNode.mapping([
    ("image", .text("postgres:16-alpine")), ("ports", .list([.text("127.0.0.1:5432:5432")])),
    (
      "environment",
      .mapping([
        ("POSTGRES_USER", .text("b3nd")), ("POSTGRES_PASSWORD", .text("b3nd")), ("POSTGRES_DB", .text("b3nd")),
      ])
    ),
    ("volumes", .list([.text("pgdata:/var/lib/postgresql/data")])),
    (
      "healthcheck",
      healthCheck([.text("CMD"), .text("pg_isready"), .text("-U"), .text("b3nd"), .text("-d"), .text("b3nd")])
    ),
    ("restart", .text("unless-stopped")),
  ])

  private static let mongoDB = YAMLNode.mapping([
    ("image", .text("mongo:7")), ("ports", .list([.text("127.0.0.1:27017:27017")])),
    ("volumes", .list([.text("mongodata:/data/db")])),
    (
      "healthcheck",
      healthCheck([
        .text("CMD"), .text("mongosh"), .text("--quiet"), .text("--eval"),
        .text("quit(db.adminCommand('ping').ok ? 0 : 1)"),
      ])
    ),
    ("restart", .text("unless-stopped")),
  ])
}
