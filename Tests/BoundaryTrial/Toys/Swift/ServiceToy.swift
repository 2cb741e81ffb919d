import PluginAPI
import Synchronization

/// A service in Swift with everything that is still a draft: it is told that the node is ready (and writes a record),
/// answers GET /toy, keeps what is PUT and DELETEd there, takes connections over and echoes, and hands what it keeps to its
/// successor.
final class ServiceToy: RawToy {
  private struct State {
    /// In order of first arrival.
    var records: [(key: String, value: [UInt8])] = []
    /// Keys that have changed since the snapshot was begun.
    var journal: [String] = []
    var connections: [bp_token: Connection] = [:]
  }

  /// One connection that was taken over. It lets in no more input than it can hold until there is credit to send it.
  private struct Connection {
    static let heldBytesMax = 8
    var held: [UInt8] = []
    /// What may still be sent.
    var credits: UInt32
    /// What the host may still put in.
    var granted = UInt32(Connection.heldBytesMax)
    var isEnded = false
    /// A thread is in `pump`: whoever comes meanwhile has only to leave its bytes or its credit behind.
    var isSending = false
  }

  private let state = Mutex(State())

  private static let service = ConstantTable(
    bp_service(
      size: .size(of: bp_service.self), flags: 0,
      node_ready: { pointer, _, token in RawToy.with(pointer, as: ServiceToy.self) { $0.nodeReady(token) } },
      node_ending: nil))

  private static let route = ConstantTable(
    bp_http_route(
      size: .size(of: bp_http_route.self), flags: 0,
      routes: { _, context, add in "GET".withView { method in "/toy".withView { add?(context, method, $0) } } },
      handle: { pointer, _, request, token in
        RawToy.with(pointer, as: ServiceToy.self) { $0.handle(request!.pointee, token) }
      }))

  private static let upgrade = ConstantTable(
    bp_http_upgrade(
      size: .size(of: bp_http_upgrade.self), flags: 0,
      open: { pointer, _, request, token in
        RawToy.with(pointer, as: ServiceToy.self) { $0.open(request!.pointee.credits, token) }
      },
      input: { pointer, token, bytes, flags in
        RawToy.with(pointer, as: ServiceToy.self) { $0.input(token, bytes, isEnd: flags & BP_HTTP_INPUT_END != 0) }
      }))

  private static let handover = ConstantTable(
    bp_state(
      size: .size(of: bp_state.self), format_version: 1, format_version_oldest: 1, reserved: 0,
      export_state: { pointer, _, request, token in
        RawToy.with(pointer, as: ServiceToy.self) { $0.export(request!.pointee.phase, token) }
      },
      import_state: { pointer, _, request, token in
        RawToy.with(pointer, as: ServiceToy.self) { $0.importRecord(request!.pointee, token) }
      }))

  override func extensionTable(_ id: bp_view) -> UnsafeRawPointer? {
    if id.equals("backplane.service/1") { return ServiceToy.service.raw }
    if id.equals("backplane.http.route/1") { return ServiceToy.route.raw }
    if id.equals("backplane.http.upgrade/1") { return ServiceToy.upgrade.raw }
    return id.equals("backplane.state/1") ? ServiceToy.handover.raw : nil
  }

  private func done(_ token: bp_token, _ code: bp_code = BP_OK) {
    var result = bp_result.code(code, bp_result.self)
    host.complete(token, with: &result)
  }

  private func nodeReady(_ token: bp_token) {
    let node = Context(host: host, slot: "toy", purpose: .serve, stateDirectory: "").node
    let host = host
    // On the pool of the test process: a real service has an executor of its own.
    Task {
      do {
        try await node.receive("toy://plain/service", Array("\"ready\"".utf8), parent: token)
        var result = bp_result.ok(bp_result.self)
        host.complete(token, with: &result)
      } catch {
        host.fail(token, Failure(error), as: bp_result.self)
      }
    }
  }

  private func handle(_ request: bp_http_request, _ token: bp_token) {
    let key = request.target.text
    if request.method.equals("PUT") { change(key, to: request.body.array) }
    if request.method.equals("DELETE") { change(key, to: nil) }
    "content-type".withView { key in
      "text/plain".withView { value in
        var type = bp_field(key: key, value: value)
        withUnsafePointer(to: &type) { headers in
          var result = bp_http_result(
            result: .ok(bp_http_result.self), status: 200, headers_count: 1, headers: headers, body: request.target)
          host.complete(token, with: &result)
        }
      }
    }
  }

  // MARK: Connections

  private func open(_ credits: UInt32, _ token: bp_token) {
    // The head costs one.
    state.withLock { $0.connections[token] = Connection(credits: credits - 1) }
    let code = "upgrade".withView { key in
      "toy".withView { value in
        let header = bp_field(key: key, value: value)
        return withUnsafePointer(to: header) { header in
          let accept = bp_http_accept(
            chunk: bp_chunk(size: .size(of: bp_http_accept.self), count: 1, bytes: .empty), status: 101,
            headers_count: 1, headers: header)
          return withUnsafePointer(to: accept) {
            emit(token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self))
          }
        }
      }
    }
    guard code == BP_OK else { return close(token, code) }
    _ = host.table.pointee.grant(host.instance, token, UInt32(Connection.heldBytesMax))
  }

  private func emit(_ token: bp_token, _ chunk: UnsafePointer<bp_chunk>) -> bp_code {
    host.table.pointee.emit(host.instance, token, chunk)
  }

  private func emit(_ token: bp_token, _ bytes: [UInt8], cost: UInt32) -> bp_code {
    bytes.withView { view in
      let chunk = bp_chunk(size: .size(of: bp_chunk.self), count: cost, bytes: view)
      return withUnsafePointer(to: chunk) { emit(token, $0) }
    }
  }

  private func input(_ token: bp_token, _ bytes: bp_view, isEnd: Bool) {
    let isBreach = state.withLock { state in
      guard var connection = state.connections[token] else { return false }
      guard bytes.size <= connection.granted, !connection.isEnded else { return true }
      connection.held += bytes.array
      connection.granted -= UInt32(bytes.size)
      connection.isEnded = isEnd
      state.connections[token] = connection
      return false
    }
    if isBreach { close(token, BP_INTERNAL) } else { pump(token) }
  }

  override func grant(_ token: bp_token, _ credits: UInt32) {
    state.withLock { $0.connections[token]?.credits += credits }
    pump(token)
  }

  private enum Step {
    case send([UInt8])
    case end
    case wait
  }

  /// Sends what is held as far as there is credit, and lets in as much as has left.
  private func pump(_ token: bp_token) {
    let isMine = state.withLock { state in
      guard state.connections[token]?.isSending == false else { return false }
      state.connections[token]?.isSending = true
      return true
    }
    guard isMine else { return }
    while true {
      let step = state.withLock { state -> Step in
        guard var connection = state.connections[token] else { return .wait }
        defer { state.connections[token] = connection }
        let piece = Array(connection.held.prefix(Int(connection.credits)))
        if !piece.isEmpty {
          connection.held.removeFirst(piece.count)
          connection.credits -= UInt32(piece.count)
          return .send(piece)
        }
        connection.isSending = false
        return connection.isEnded && connection.held.isEmpty ? .end : .wait
      }
      switch step {
      case .wait: return
      case .end: return close(token, BP_OK)
      case .send(let piece):
        let code = emit(token, piece, cost: UInt32(piece.count))
        guard code == BP_OK else { return close(token, code) }
        state.withLock { $0.connections[token]?.granted += UInt32(piece.count) }
        _ = host.table.pointee.grant(host.instance, token, UInt32(piece.count))
      }
    }
  }

  private func close(_ token: bp_token, _ code: bp_code) {
    guard state.withLock({ $0.connections.removeValue(forKey: token) }) != nil else { return }
    var result = bp_http_result()
    result.result = .code(code, bp_http_result.self)
    result.status = 101
    host.complete(token, with: &result)
  }

  override func cancel(_ token: bp_token) { close(token, BP_CANCELLED) }

  override func stop() {
    for token in state.withLock({ Array($0.connections.keys) }) { close(token, BP_UNAVAILABLE) }
  }

  // MARK: State. A chunk is '+', the key, a zero and the value, or '-' and the key of a deleted record.

  private func change(_ key: String, to value: [UInt8]?, isJournalled: Bool = true) {
    state.withLock { state in
      let index = state.records.firstIndex { $0.key == key }
      switch (index, value) {
      case (let index?, let value?): state.records[index].value = value
      case (nil, let value?): state.records.append((key, value))
      case (let index?, nil): state.records.remove(at: index)
      case (nil, nil): break
      }
      if isJournalled, !state.journal.contains(key) { state.journal.append(key) }
    }
  }

  private func export(_ phase: UInt32, _ token: bp_token) {
    let chunks = state.withLock { state -> [[UInt8]] in
      defer { state.journal = [] }
      if phase == BP_STATE_ABANDON { return [] }
      let keys = phase == BP_STATE_SNAPSHOT ? state.records.map(\.key) : state.journal
      return keys.map { key -> [UInt8] in
        guard let record = state.records.first(where: { $0.key == key }) else { return [UInt8]("-" + key) }
        return [UInt8]("+" + key) + [0] + record.value
      }
    }
    var code = BP_OK
    // Without credit for the rest this toy fails the export instead of waiting.
    for chunk in chunks where code == BP_OK { code = emit(token, chunk, cost: 1) }
    done(token, code)
  }

  private func importRecord(_ request: bp_state_import, _ token: bp_token) {
    guard request.format_version == 1 else { return done(token, BP_UNIMPLEMENTED) }
    let bytes = request.bytes.array
    if !bytes.isEmpty {
      let parts = bytes.dropFirst().split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
      let value = parts.count == 2 ? Array(parts[1]) : nil
      change(String(decoding: parts[0], as: UTF8.self), to: value, isJournalled: false)
    }
    done(token)
  }

  static let entry = RawEntry(kind: "service", id: "org.example.toy.service") { ServiceToy.create($0, $1, $2) }
}
