import PluginAPI
import Synchronization

/// A service in Swift with everything that is still a draft: it is told that the node is ready (and writes a record),
/// answers GET /toy, takes connections over and echoes, and hands a list of lines to its successor.
final class ServiceToy: RawToy {
  private struct State {
    var lines: [[UInt8]] = []
    var connections: Set<bp_token> = []
  }

  private let state = Mutex(State())

  private static let service = ConstantTable(
    bp_service(
      size: .size(of: bp_service.self), flags: 0,
      node_ready: { pointer, _, token in RawToy.with(pointer, as: ServiceToy.self) { $0.nodeReady(token) } }))

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
      open: { pointer, _, _, token in
        RawToy.with(pointer, as: ServiceToy.self) { toy in _ = toy.state.withLock { $0.connections.insert(token) } }
      },
      input: { pointer, token, bytes in RawToy.with(pointer, as: ServiceToy.self) { $0.input(token, bytes) } }))

  private static let handover = ConstantTable(
    bp_state(
      size: .size(of: bp_state.self), format_version: 1, format_version_oldest: 1, reserved: 0,
      export_state: { pointer, _, _, token in RawToy.with(pointer, as: ServiceToy.self) { $0.export(token) } },
      import_state: { pointer, _, request, token in
        RawToy.with(pointer, as: ServiceToy.self) { $0.importLine(request!.pointee, token) }
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

  private func input(_ token: bp_token, _ bytes: bp_view) -> UInt32 {
    if bytes.equals("bye") {
      close(token, BP_OK)
      return 0
    }
    var chunk = bp_chunk(size: .size(of: bp_chunk.self), count: 1, bytes: bytes)
    return host.table.pointee.emit(host.instance, token, &chunk) == BP_OK ? 4096 : 0
  }

  private func close(_ token: bp_token, _ code: bp_code) {
    guard state.withLock({ $0.connections.remove(token) }) != nil else { return }
    var result = bp_http_result()
    result.result = .code(code, bp_http_result.self)
    result.status = 101
    host.complete(token, with: &result)
  }

  override func cancel(_ token: bp_token) { close(token, BP_CANCELLED) }

  override func stop() {
    for token in state.withLock({ $0.connections }) { close(token, BP_UNAVAILABLE) }
  }

  private func export(_ token: bp_token) {
    var code = BP_OK
    for line in state.withLock({ $0.lines }) where code == BP_OK {
      code = line.withView { view in
        var chunk = bp_chunk(size: .size(of: bp_chunk.self), count: 1, bytes: view)
        return host.table.pointee.emit(host.instance, token, &chunk)
      }
    }
    // Without credit for the rest this toy fails the export instead of waiting.
    done(token, code)
  }

  private func importLine(_ request: bp_state_import, _ token: bp_token) {
    guard request.format_version == 1 else { return done(token, BP_UNIMPLEMENTED) }
    let line = request.bytes.array
    state.withLock { $0.lines.append(line) }
    done(token)
  }

  static let entry = RawEntry(kind: "service", id: "org.example.toy.service") { ServiceToy.create($0, $1, $2) }
}
