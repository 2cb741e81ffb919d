import BackplaneABI
import IsolationWire

/// The tables of a proxied plugin: C functions that find the proxy behind `self`.
enum ProxyTables {
  static var plugin: bp_plugin {
    bp_plugin(
      size: UInt32(MemoryLayout<bp_plugin>.size), reserved: 0, self: nil,
      configure: { ProxyPlugin.at($0).configure($1!, $2) },
      start: { ProxyPlugin.at($0).start($1, $2) },
      quiesce: { ProxyPlugin.at($0).quiesce($1, $2) },
      stop: { ProxyPlugin.at($0).stop($1, $2) },
      destroy: { ProxyPlugin.at($0).destroy() },
      cancel: { pointer, token in
        if case .up(let link) = ProxyPlugin.at(pointer).current() { link.cancel(token) }
      },
      grant: { pointer, token, credits in
        if case .up(let link) = ProxyPlugin.at(pointer).current() { link.connection.sendGrant(token, credits: credits) }
      },
      extension: { pointer, id in ProxyPlugin.at(pointer).table(id.text) })
  }

  /// Sends one call, or completes it with why it cannot be sent.
  @inline(__always)
  private static func submit(
    _ pointer: UnsafeMutableRawPointer?, _ token: bp_token, _ send: (Connection) -> Connection.Outcome
  ) {
    let proxy = ProxyPlugin.at(pointer)
    guard case .up(let link) = proxy.current() else { return proxy.refuse(token) }
    let outcome = send(link.connection)
    if outcome != .sent { proxy.hasEndedWithoutSubmitting(token, outcome) }
  }

  static func backend(_ facts: PluginFacts.Backend) -> bp_backend {
    bp_backend(
      size: UInt32(MemoryLayout<bp_backend>.size), flags: facts.flags, apply_mode: BP_MODE_ASYNC,
      read_mode: BP_MODE_ASYNC, scan_mode: BP_MODE_ASYNC, durability_max: facts.durabilityMax,
      apply: { pointer, units, count in
        // Arrays of sized structs are walked by the size of their first element.
        let stride = Int(units!.pointee.size)
        for index in 0..<Int(count) {
          let unit = UnsafeRawPointer(units!).advanced(by: index * stride).assumingMemoryBound(to: bp_unit.self)
          ProxyTables.submit(pointer, unit.pointee.token) { $0.sendApply(unit) }
        }
      },
      read: { pointer, reads, count in
        let stride = Int(reads!.pointee.size)
        for index in 0..<Int(count) {
          let read = UnsafeRawPointer(reads!).advanced(by: index * stride).assumingMemoryBound(to: bp_read.self)
          ProxyTables.submit(pointer, read.pointee.token) { $0.sendRead(read) }
        }
      },
      scan: { pointer, scan in ProxyTables.submit(pointer, scan!.pointee.token) { $0.sendScan(scan!) } })
  }

  static var queries: bp_backend_query {
    bp_backend_query(
      size: UInt32(MemoryLayout<bp_backend_query>.size), mode: BP_MODE_ASYNC,
      query: { pointer, query in ProxyTables.submit(pointer, query!.pointee.token) { $0.sendQuery(query!) } })
  }

  static func schema(_ facts: PluginFacts.Schema) -> bp_schema {
    bp_schema(
      size: UInt32(MemoryLayout<bp_schema>.size), flags: facts.flags, judge_mode: BP_MODE_ASYNC, reserved: 0,
      programs: { pointer, context, add in
        for program in ProxyPlugin.at(pointer).programs {
          program.key.withUnsafeBufferPointer {
            var whole = bp_program(
              size: UInt32(MemoryLayout<bp_program>.size), flags: program.flags, key: bp_view($0))
            add!(context, &whole)
          }
        }
      },
      judge: { pointer, call, message, token in
        ProxyPlugin.at(pointer).judgements.open(token, message!)
        ProxyTables.submit(pointer, token) { $0.sendJudge(call!, message!, token) }
      },
      canonical_uri: facts.hasCanonicalForm
        ? { pointer, uri, sink in ProxyPlugin.at(pointer).canonical(uri, sink) } : nil)
  }

  static var transport: bp_transport {
    bp_transport(
      size: UInt32(MemoryLayout<bp_transport>.size), flags: 0,
      connections: { pointer in
        guard case .up(let link) = ProxyPlugin.at(pointer).current() else { return 0 }
        // The next one who asks gets the number that this brings.
        link.connection.sendAskConnections()
        return link.connectionCount.load(ordering: .relaxed)
      })
  }

  static func service(_ facts: PluginFacts.Service) -> bp_service {
    bp_service(
      size: UInt32(MemoryLayout<bp_service>.size), flags: 0,
      node_ready: facts.wantsReady
        ? { pointer, call, token in ProxyTables.submit(pointer, token) { $0.sendNotice(.nodeReady, call!, token) } }
        : nil,
      node_ending: facts.wantsEnding
        ? { pointer, call, token in ProxyTables.submit(pointer, token) { $0.sendNotice(.nodeEnding, call!, token) } }
        : nil
    )
  }

  static func state(_ facts: PluginFacts.State) -> bp_state {
    bp_state(
      size: UInt32(MemoryLayout<bp_state>.size), format_version: facts.formatVersion,
      format_version_oldest: facts.formatVersionOldest, reserved: 0,
      export_state: { pointer, call, request, token in
        ProxyTables.submit(pointer, token) { $0.sendExport(call!, request!, token) }
      },
      import_state: { pointer, call, request, token in
        ProxyTables.submit(pointer, token) { $0.sendImport(call!, request!, token) }
      })
  }

  /// The entry of every isolated plugin. `create` finds the proxy by the instance's handle.
  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let entry: UnsafePointer<bp_entry> = {
    let entry = UnsafeMutablePointer<bp_entry>.allocate(capacity: 1)
    entry.initialize(to: bp_entry())
    entry.pointee.size = UInt32(MemoryLayout<bp_entry>.size)
    entry.pointee.abi_major = BP_ABI_MAJOR
    entry.pointee.abi_minor = BP_ABI_MINOR
    entry.pointee.create = { _, handle, report in
      guard let proxy = InstanceRegistry.shared.find(handle)?.proxy, proxy.create(report) == BP_OK else { return nil }
      return UnsafePointer(proxy.table)
    }
    return UnsafePointer(entry)
  }()
}
