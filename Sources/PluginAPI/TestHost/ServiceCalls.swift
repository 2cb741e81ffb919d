import PluginAPI

/// The kind `service`.
extension TestHost {
  private func service() throws -> Pinned<bp_service> {
    guard let table = extensionTable("backplane.service/1", as: bp_service.self) else {
      throw Failure.unimplemented("the plugin is no service")
    }
    return Pinned(table)
  }

  /// Tells the service that the node serves, and waits until it has completed that. Throws its failure.
  public func nodeReady(deadline: Duration = .seconds(60)) async throws {
    if let failure = try await beginNodeReady(deadline: deadline)?.value { throw failure }
  }

  /// Without waiting. Nil: the service does not want to know.
  public func beginNodeReady(deadline: Duration = .seconds(60)) throws -> TestCall<Failure?>? {
    let service = try service()
    return try service.pointee.node_ready.map { try beginNotice($0, deadline) }
  }

  /// Tells the service that the node is about to end, and waits until it has completed that. Throws its failure.
  public func nodeEnding(deadline: Duration = .seconds(60)) async throws {
    if let failure = try await beginNodeEnding(deadline: deadline)?.value { throw failure }
  }

  /// Without waiting. Nil: the service does not want to know.
  public func beginNodeEnding(deadline: Duration = .seconds(60)) throws -> TestCall<Failure?>? {
    let service = try service()
    return try service.pointee.node_ending.map { try beginNotice($0, deadline) }
  }

  private typealias Notice =
    @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<bp_call>?, bp_token) -> Void

  private func beginNotice(_ function: @escaping Notice, _ deadline: Duration) throws -> TestCall<Failure?> {
    let plugin = pluginSelf
    return try begin(
      bp_result.self, deadline: deadline, submit: { _, call, token in function(plugin, call, token) },
      read: { $0.failure })
  }

  /// What `context.observe` answers from now on. Until it is set, health is of one slot: the plugin itself.
  public func observe(health: NodeHealth? = nil, operations: [OperationCounts] = []) {
    core.state.withLock { state in
      state.observedHealth = health
      state.observedOperations = operations
    }
  }
}
