import JSONText

extension ManagedConfiguration {
  /// Reads a document, such as the payload of a message.
  public init(_ document: [UInt8]) throws(DocumentError) {
    self = try withDocument(document) { value in
      do throws(DocumentError) { return .success(try ManagedConfiguration(value)) } catch { return .failure(error) }
    }
  }

  /// Reads a document; nothing of the slice is kept.
  public init(_ value: JSONSlice) throws(DocumentError) {
    if let problem = Self.problems(in: value).first { throw .rule(problem) }
    guard let server = value.member("server"), let backends = value.member("backends"),
      let monitoring = value.member("monitoring"), let nodeId = value.string("nodeId"),
      let name = value.string("name")
    else { preconditionFailure("the rules ask for them") }
    self.init(
      nodeId: nodeId, name: name,
      server: Server(port: server.number("port") ?? 0, corsOrigin: server.string("corsOrigin") ?? ""),
      backends: backends.elements.compactMap(Self.backend),
      monitoring: Monitoring(
        heartbeatIntervalMs: monitoring.number("heartbeatIntervalMs") ?? 0,
        configPollIntervalMs: monitoring.number("configPollIntervalMs") ?? 0,
        metricsEnabled: monitoring.member("metricsEnabled")?.bool ?? false))
    var list = ProblemList()
    readOptionalMembers(value, &list)
    noteOddValues(value, &list)
    notices = list.problems
  }

  private static func backend(_ value: JSONSlice) -> Backend? {
    guard let type = value.string("type").flatMap(Backend.Kind.init(rawValue:)), let url = value.string("url") else {
      return nil
    }
    return Backend(
      type: type, url: url, rawOptions: value.member("options").flatMap { $0.kind == .null ? nil : RawJSON($0) })
  }

  // MARK: - What the rules do not look at

  private mutating func readOptionalMembers(_ value: JSONSlice, _ list: inout ProblemList) {
    schemaModuleUrl = Self.optionalText(value, "schemaModuleUrl", &list)
    networkId = Self.optionalText(value, "networkId", &list)
    if let inline = value.member("schemaInline"), inline.kind != .null { schemaInline = RawJSON(inline) }
    readPeers(value.member("peers"), &list)
    readTags(value.member("tags"), &list)
  }

  /// Nil for what is missing, `null`, empty or no text; the last of these is noted.
  private static func optionalText(_ value: JSONSlice, _ name: StaticString, _ list: inout ProblemList) -> String? {
    guard let member = value.member(name), member.kind != .null else { return nil }
    if !member.isString { list.add("/\(name)", "\(name) is no text, so it has no effect") }
    return member.nonEmptyText
  }

  private mutating func readPeers(_ value: JSONSlice?, _ list: inout ProblemList) {
    guard let value, value.kind != .null else { return }
    guard value.kind == .array else { return list.add("/peers", "peers is no array, so the node has no peers") }
    for (index, peer) in value.elements.enumerated() {
      let pointer = "/peers/\(index)"
      guard peer.isObject, let url = peer.member("url")?.nonEmptyText else {
        list.add(pointer, "the peer has no url, so it is left out")
        continue
      }
      let word = peer.string("direction")
      guard let direction = word.flatMap(Peer.Direction.init(rawValue:)) else {
        let what = word.map { "the direction \"\($0.prefix(40))\" is unknown" } ?? "the peer has no direction"
        list.add(pointer + "/direction", what + " (push, pull or bidirectional), so it is left out")
        continue
      }
      peers.append(Peer(url: url, direction: direction))
    }
  }

  private mutating func readTags(_ value: JSONSlice?, _ list: inout ProblemList) {
    guard let value, value.kind != .null else { return }
    guard value.isObject else { return list.add("/tags", "tags is no object, so the node has no tags") }
    var places: [String: Int] = [:]
    for (key, value) in value.members {
      guard let name = key.text else { continue }
      guard let text = value.text else {
        list.add("/tags/\(pointerStep(name))", "the tag is no text, so it is left out")
        continue
      }
      // Of equal names the last value counts, in the first place.
      if let place = places[name] {
        tags[place].value = text
      } else {
        places[name] = tags.count
        tags.append(Tag(name, text))
      }
    }
  }

  private static let knownMembers: Set<String> = [
    "configVersion", "nodeId", "name", "server", "backends", "schemaModuleUrl", "schemaInline", "peers", "monitoring",
    "networkId", "tags",
  ]

  private func noteOddValues(_ value: JSONSlice, _ list: inout ProblemList) {
    if server.portNumber == nil { list.add("/server/port", "the port is no whole number, so no node can listen on it") }
    for (index, backend) in (value.member("backends")?.elements).map(Array.init)?.enumerated() ?? [].enumerated() {
      Options.note(backend.member("options"), "/backends/\(index)/options", &list)
    }
    if !(monitoring.heartbeatIntervalMs > 0) {
      list.add("/monitoring/heartbeatIntervalMs", "the interval is not above zero")
    }
    if !(monitoring.configPollIntervalMs > 0) {
      list.add("/monitoring/configPollIntervalMs", "the interval is not above zero")
    }
    for (key, _) in value.members {
      guard let name = key.text, !Self.knownMembers.contains(name) else { continue }
      list.add("/\(pointerStep(name))", "the member is unknown and has no effect")
    }
  }
}

extension ManagedConfiguration.Options {
  private static let kinds: [String: JSONKind] = [
    "tablePrefix": .string, "poolSize": .number, "connectionTimeout": .number, "collectionName": .string,
  ]

  init(_ value: JSONSlice) {
    tablePrefix = value.string("tablePrefix")
    poolSize = value.number("poolSize")
    connectionTimeoutMs = value.number("connectionTimeout")
    collectionName = value.string("collectionName")
  }

  /// Notes what of `value` has no effect.
  static func note(_ value: JSONSlice?, _ pointer: String, _ list: inout ProblemList) {
    guard let value, value.kind != .null else { return }
    guard value.isObject else { return list.add(pointer, "options is no object, so it has no effect") }
    for (key, member) in value.members {
      guard let name = key.text, member.kind != .null else { continue }
      let place = "\(pointer)/\(pointerStep(name))"
      guard let kind = kinds[name] else {
        list.add(place, "the option is unknown and has no effect")
        continue
      }
      list.require(
        member.kind == kind, place, "the option is no \(kind == .string ? "text" : "number"), so it has no effect")
    }
  }
}
