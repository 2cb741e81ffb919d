import BackplaneABI
import Glibc
import IsolationWire
import URIText

/// The tables that the plugin is given: the kernel's, by wire.
enum HostTables {
  // nonisolated(unsafe): written once by main before any plugin is loaded, only read afterwards.
  nonisolated(unsafe) static var plugin: HostedPlugin!
  /// There is one instance in this process.
  static let instance: bp_instance = 1

  private static func constant<T>(_ value: T) -> UnsafePointer<T> {
    let table = UnsafeMutablePointer<T>.allocate(capacity: 1)
    table.initialize(to: value)
    return UnsafePointer(table)
  }

  // nonisolated(unsafe), all of them: written once by their initialisers, only read afterwards, never freed.
  nonisolated(unsafe) static let host = constant(
    bp_host(
      size: UInt32(MemoryLayout<bp_host>.size), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR, reserved: 0,
      complete: { instance, token, result in
        guard instance == HostTables.instance, let result else { return }
        HostTables.plugin.complete(token, result)
      },
      emit: { instance, token, chunk in
        guard instance == HostTables.instance, let chunk else { return BP_CLOSED }
        return HostTables.plugin.emit(token, chunk)
      },
      cancel: { instance, token in
        guard instance == HostTables.instance else { return }
        HostTables.plugin.connection.sendCancelNode(token)
      },
      grant: { instance, token, credits in
        guard instance == HostTables.instance else { return BP_CLOSED }
        if HostTables.plugin.nodeCalls.isOpen(token) {
          HostTables.plugin.connection.sendGrantNode(token, credits: credits)
          return BP_OK
        }
        return HostTables.plugin.asking.askGrant(token, credits: credits)
      },
      log: { instance, level, message, fields, count in
        guard instance == HostTables.instance else { return }
        HostTables.plugin.connection.sendLog(level, message, fields, count)
      },
      metric: { instance, metric, handle in
        guard instance == HostTables.instance, let metric, let handle else { return BP_CLOSED }
        let answer = HostTables.plugin.asking.askMetric(metric)
        if answer.code == BP_OK { handle.pointee = answer.handle }
        return answer.code
      },
      record: { instance, handle, value in
        guard instance == HostTables.instance else { return }
        HostTables.plugin.connection.sendRecord(handle, value)
      },
      health: { instance, state, message in
        guard instance == HostTables.instance else { return }
        HostTables.plugin.connection.sendHealth(state, message)
      },
      extension: { instance, id in
        guard instance == HostTables.instance else { return nil }
        return HostTables.find(
          String(decoding: UnsafeBufferPointer(start: id.data, count: Int(id.size)), as: UTF8.self))
      }))

  private static func find(_ id: String) -> UnsafeRawPointer? {
    guard plugin.hasExtension(id) else { return nil }
    return switch id {
    case "backplane.node/1": UnsafeRawPointer(node)
    case "backplane.feed/1": UnsafeRawPointer(feed)
    case "backplane.timer/1": UnsafeRawPointer(timer)
    case "backplane.proposal/1": UnsafeRawPointer(proposals)
    case "backplane.observe/1": UnsafeRawPointer(observe)
    case "backplane.listener/1": UnsafeRawPointer(listener)
    default: nil
    }
  }

  private static var emptyCall: bp_call {
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    return call
  }

  nonisolated(unsafe) private static let node = constant(
    bp_node(
      size: UInt32(MemoryLayout<bp_node>.size), reserved: 0,
      receive: { instance, call, request, completion in
        let request = request!
        defer { request.pointee.data.release?(request.pointee.data.owner) }
        return HostTables.begin(instance, completion, .write) {
          $0.sendNodeReceive($1, call?.pointee ?? HostTables.emptyCall, request)
        }
      },
      read: { instance, call, uri, completion in
        HostTables.begin(instance, completion, .read) {
          $0.sendNodeRead($1, call?.pointee ?? HostTables.emptyCall, uri)
        }
      },
      read_multi: { instance, call, uris, count, completion in
        HostTables.begin(instance, completion, .plain) {
          $0.sendNodeReadMulti($1, call?.pointee ?? HostTables.emptyCall, uris, count)
        }
      },
      list: { instance, call, request, completion in
        HostTables.begin(instance, completion, .list) {
          $0.sendNodeList($1, call?.pointee ?? HostTables.emptyCall, request!)
        }
      },
      remove: { instance, call, uri, completion in
        HostTables.begin(instance, completion, .write) {
          $0.sendNodeRemove($1, call?.pointee ?? HostTables.emptyCall, uri)
        }
      },
      programs: { instance, context, add in
        guard instance == HostTables.instance else { return }
        for key in HostTables.plugin.asking.askPrograms() {
          key.withUnsafeBufferPointer { add!(context, bp_view(data: $0.baseAddress, size: UInt64($0.count))) }
        }
      },
      normalise: { _, uri, sink in HostTables.normalise(uri, sink) }))

  nonisolated(unsafe) private static let feed = constant(
    bp_feed(
      size: UInt32(MemoryLayout<bp_feed>.size), reserved: 0,
      subscribe: { instance, call, request, completion in
        guard let request, completion.chunk != nil else {
          NodeCalls.fail(
            completion, .plain, BP_INVALID_ARGUMENT, "a subscription needs a request and a function for chunks")
          return 0
        }
        return HostTables.begin(instance, completion, .plain) {
          $0.sendSubscribe($1, call?.pointee ?? HostTables.emptyCall, request)
        }
      }))

  nonisolated(unsafe) private static let timer = constant(
    bp_timer(
      size: UInt32(MemoryLayout<bp_timer>.size), reserved: 0,
      after: { instance, dueNs, completion in
        guard instance == HostTables.instance else {
          NodeCalls.fail(completion, .plain, BP_CLOSED, "the instance is gone")
          return 0
        }
        return HostTables.plugin.nodeCalls.beginTimer(completion) {
          HostTables.plugin.connection.sendNodeTimer($0, dueNs: dueNs)
        }
      }))

  nonisolated(unsafe) private static let proposals = constant(
    bp_proposals(
      size: UInt32(MemoryLayout<bp_proposals>.size), reserved: 0,
      propose: { instance, _, proposal, completion in
        let proposal = proposal!.pointee
        // The kernel's bound, kept here too: what is larger is not carried there to be refused.
        guard proposal.json.size <= 1 << 20 else {
          BareResult.with(
            .proposal, BP_INVALID_ARGUMENT, "a proposal has at most 1048576 bytes", isRetryable: false
          ) { completion.complete(completion.context, $0) }
          return 0
        }
        return HostTables.begin(instance, completion, .proposal) {
          $0.sendNodePropose($1, flags: proposal.flags, json: proposal.json)
        }
      }))

  private static func begin(
    _ instance: bp_instance, _ completion: bp_completion, _ shape: ResultShape,
    _ send: (Connection, UInt64) -> Connection.Outcome
  ) -> bp_token {
    guard instance == HostTables.instance else {
      NodeCalls.fail(completion, shape, BP_CLOSED, "the instance is gone")
      return 0
    }
    return plugin.nodeCalls.begin(completion, shape) { send(plugin.connection, $0) }
  }

  /// Pure, so it is done here: the same code as the kernel's.
  private static func normalise(_ uri: bp_view, _ sink: bp_sink) -> bp_code {
    let bytes = UnsafeBufferPointer(start: uri.data, count: Int(uri.size))
    return withUnsafeTemporaryAllocation(
      of: UInt8.self, capacity: URIText.scratchBytes(forInputBytes: bytes.count)
    ) { scratch in
      switch URIText.normalise(bytes, into: scratch) {
      case .unchanged:
        sink.write(sink.context, uri)
        return BP_OK
      case .written(let length, _):
        sink.write(sink.context, bp_view(data: UnsafePointer(scratch.baseAddress), size: UInt64(length)))
        return BP_OK
      case .invalid, .tooLong: return BP_INVALID_ARGUMENT
      }
    }
  }

  nonisolated(unsafe) private static let observe = constant(
    bp_observe(
      size: UInt32(MemoryLayout<bp_observe>.size), reserved: 0,
      health: { instance, state, context, add in
        state?.pointee = BP_HEALTH_UNHEALTHY
        guard instance == HostTables.instance, let answer = HostTables.plugin.asking.askHealth() else { return 0 }
        for slot in answer.slots { HostTables.lend(slot.state, slot.texts) { add?(context, $0) } }
        state?.pointee = answer.state
        return answer.flags
      },
      metrics: { instance, sink in
        guard instance == HostTables.instance else { return }
        HostTables.plugin.asking.askMetricsText().withUnsafeBufferPointer {
          sink.write(sink.context, bp_view(data: $0.baseAddress, size: UInt64($0.count)))
        }
      },
      operations: { instance, context, add in
        guard instance == HostTables.instance else { return }
        for counts in HostTables.plugin.asking.askOperations() { counts.with { add?(context, $0) } }
      }))

  /// One slot's health, whose texts are valid during `body`.
  private static func lend(_ state: UInt32, _ texts: [[UInt8]], _ body: (UnsafePointer<bp_slot_health>) -> Void) {
    let all = texts.flatMap { $0 }
    all.withUnsafeBufferPointer { bytes in
      var offset = 0
      let views = texts.map { text in
        defer { offset += text.count }
        return bp_view(data: bytes.baseAddress.map { $0 + offset }, size: UInt64(text.count))
      }
      var health = bp_slot_health(
        size: UInt32(MemoryLayout<bp_slot_health>.size), state: state, slot: views[0], kind: views[1],
        plugin: views[2], version: views[3], scheme: views[4], message: views[5])
      body(&health)
    }
  }

  nonisolated(unsafe) private static let listener = constant(
    bp_listener(
      size: UInt32(MemoryLayout<bp_listener>.size), reserved: 0,
      borrow: { instance, name, socket in
        guard instance == HostTables.instance, let socket else { return BP_CLOSED }
        guard socket.pointee.size >= UInt32(MemoryLayout<bp_listener_socket>.size) else { return BP_INVALID_ARGUMENT }
        let answer = HostTables.plugin.asking.askBorrow(name)
        guard answer.code == BP_OK else {
          if answer.descriptor >= 0 { close(answer.descriptor) }
          return answer.code
        }
        socket.pointee.descriptor = answer.descriptor
        socket.pointee.port = answer.port
        return BP_OK
      }))
}
