import JSONText

extension ManagedConfiguration {
  /// Everything by which `value` is no configuration, in the order in which the reference looks: the first is what it
  /// would say. Empty: it is one.
  public static func problems(in value: JSONSlice) -> [DocumentProblem] {
    guard value.isObject else { return [DocumentProblem(pointer: "", text: "config must be an object")] }
    var list = ProblemList()
    list.require(value.number("configVersion") == 1, "/configVersion", "configVersion must be 1")
    list.require(value.member("nodeId")?.nonEmptyText != nil, "/nodeId", "nodeId required")
    list.require(value.member("name")?.nonEmptyText != nil, "/name", "name required")
    checkServer(value.member("server"), &list)
    checkBackends(value.member("backends"), &list)
    checkMonitoring(value.member("monitoring"), &list)
    return list.problems
  }

  /// As above, of a text.
  public static func problems(in document: [UInt8]) -> [DocumentProblem] {
    do throws(DocumentError) {
      return try withDocument(document) { .success(problems(in: $0)) }
    } catch { return [DocumentProblem(pointer: "", text: error.description)] }
  }

  private static func checkServer(_ server: JSONSlice?, _ list: inout ProblemList) {
    guard let server, server.isObject else { return list.add("/server", "server object required") }
    let port = server.number("port") ?? 0
    list.require(port >= 1 && port <= 65535, "/server/port", "server.port must be 1-65535")
    list.require(
      server.member("corsOrigin")?.isString == true, "/server/corsOrigin", "server.corsOrigin required")
  }

  private static func checkBackends(_ backends: JSONSlice?, _ list: inout ProblemList) {
    guard let backends, backends.elements.first(where: { _ in true }) != nil else {
      return list.add("/backends", "backends array required")
    }
    for (index, backend) in backends.elements.enumerated() {
      let pointer = "/backends/\(index)"
      guard backend.isObject else {
        list.add(pointer, "backend must be an object")
        continue
      }
      list.require(
        backend.string("type").flatMap(Backend.Kind.init(rawValue:)) != nil, pointer + "/type",
        "backend.type must be one of: memory, postgresql, mongodb, http")
      list.require(
        backend.member("url")?.nonEmptyText != nil, pointer + "/url", "backend.url must be a non-empty string")
    }
  }

  private static func checkMonitoring(_ monitoring: JSONSlice?, _ list: inout ProblemList) {
    guard let monitoring, monitoring.isObject else { return list.add("/monitoring", "monitoring object required") }
    list.require(
      monitoring.number("heartbeatIntervalMs") != nil, "/monitoring/heartbeatIntervalMs",
      "monitoring.heartbeatIntervalMs required")
    list.require(
      monitoring.number("configPollIntervalMs") != nil, "/monitoring/configPollIntervalMs",
      "monitoring.configPollIntervalMs required")
    list.require(
      monitoring.member("metricsEnabled")?.bool != nil, "/monitoring/metricsEnabled",
      "monitoring.metricsEnabled required")
  }
}
