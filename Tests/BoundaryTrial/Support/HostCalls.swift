import PluginAPI
import PluginTestHost
import Synchronization

/// The draft kinds through a test host: what TestHost offers for released kinds only.
extension TestHost {
  struct Answered: Sendable, Equatable {
    var code: bp_code
    var text: String
    var number: Int64 = 0
  }

  /// llm: the stream of texts.
  func generate(_ count: Int, credits: UInt32, deadline: Duration? = nil) throws -> TestStream<String, Answered> {
    let table = extensionTable("backplane.llm/1", as: bp_llm.self)!
    return try stream(
      bp_llm_result.self, credits: credits, deadline: deadline,
      submit: { arena, call, token in
        let request = arena.make(
          bp_llm_request(
            size: .size(of: bp_llm_request.self), credits: credits, model: arena.view("toy"),
            json: arena.view("\(count)")))
        table.pointee.generate(self.pluginSelf, call, request, token)
      }, chunk: { $0.pointee.bytes.text },
      read: {
        Answered(code: $0.result.code, text: $0.finish_reason.text, number: Int64($0.output_tokens))
      })
  }

  func observe(_ feed: String) async throws -> (Answered, state: UInt32) {
    let table = extensionTable("backplane.oracle/1", as: bp_oracle.self)!
    return try await call(
      bp_observation.self,
      submit: { arena, call, token in table.pointee.observe(self.pluginSelf, call, arena.view(feed), token) },
      read: { (Answered(code: $0.result.code, text: $0.source.text, number: $0.value), state: $0.state) })
  }

  func nodeReady() async throws -> bp_code {
    let table = extensionTable("backplane.service/1", as: bp_service.self)!
    return try await call(
      bp_result.self, submit: { _, call, token in table.pointee.node_ready(self.pluginSelf, call, token) },
      read: { $0.code })
  }

  /// http.route: the status, the first header's value and the body.
  @discardableResult
  func handle(_ target: String, method: String = "GET", body: String = "") async throws -> Answered {
    let table = extensionTable("backplane.http.route/1", as: bp_http_route.self)!
    return try await call(
      bp_http_result.self,
      submit: { arena, call, token in
        table.pointee.handle(self.pluginSelf, call, arena.request(target, method, body), token)
      },
      read: {
        let header = $0.headers_count > 0 ? $0.headers[0].value.text : ""
        return Answered(code: $0.result.code, text: "\(header) \($0.body.text)", number: Int64($0.status))
      })
  }

  /// What comes out of a connection that was taken over.
  enum Sent: Sendable, Equatable {
    case accepted(status: UInt32, header: String)
    case bytes(String)
    /// A byte costs one credit.
    case miscounted(cost: UInt64, size: UInt64)
  }

  func upgrade(_ target: String, credits: UInt32) throws -> TestStream<Sent, bp_code> {
    let table = extensionTable("backplane.http.upgrade/1", as: bp_http_upgrade.self)!
    let isFirst = Atomic<Bool>(true)
    return try stream(
      bp_http_result.self, credits: credits, takesInput: true,
      submit: { arena, call, token in
        let open = arena.make(
          bp_http_open(size: .size(of: bp_http_open.self), credits: credits, request: arena.request(target)))
        table.pointee.open(self.pluginSelf, call, open, token)
      },
      chunk: { chunk in
        guard isFirst.exchange(false, ordering: .relaxed) else {
          let (count, bytes) = (UInt64(chunk.pointee.count), chunk.pointee.bytes)
          return count == bytes.size ? .bytes(bytes.text) : .miscounted(cost: count, size: bytes.size)
        }
        guard chunk.pointee.size >= UInt32.size(of: bp_http_accept.self) else {
          return .accepted(status: 0, header: "")
        }
        let accept = UnsafeRawPointer(chunk).load(as: bp_http_accept.self)
        let header = accept.headers_count > 0 ? "\(accept.headers[0].key.text): \(accept.headers[0].value.text)" : ""
        return .accepted(status: accept.status, header: header)
      }, read: { $0.result.code })
  }

  /// Sends all of it, each piece within what the plugin has granted; false when the connection ended first.
  func send(_ text: String, over connection: TestStream<Sent, bp_code>) async -> Bool {
    let input = Input(self)
    return await connection.send(Array(text.utf8)) { input.deliver(connection.token, $0, 0) }
  }

  /// The client has ended its side: that costs no credit.
  func endInput(of connection: TestStream<Sent, bp_code>) {
    Input(self).deliver(connection.token, .empty, BP_HTTP_INPUT_END)
  }

  /// Input past every grant: what a host must never do.
  func breakGrant(of connection: TestStream<Sent, bp_code>, _ text: String) {
    text.withView { Input(self).deliver(connection.token, $0, 0) }
  }

  private struct Input: @unchecked Sendable {
    // @unchecked: a table is constant until destroy, and input may be called from any thread.
    let table: UnsafePointer<bp_http_upgrade>
    let pluginSelf: UnsafeMutableRawPointer?
    init(_ host: TestHost) {
      table = host.extensionTable("backplane.http.upgrade/1", as: bp_http_upgrade.self)!
      pluginSelf = host.pluginSelf
    }
    func deliver(_ token: bp_token, _ bytes: bp_view, _ flags: UInt32) {
      table.pointee.input(pluginSelf, token, bytes, flags)
    }
  }

  func export(phase: UInt32, credits: UInt32) throws -> TestStream<[UInt8], bp_code> {
    let table = extensionTable("backplane.state/1", as: bp_state.self)!
    return try stream(
      bp_result.self, credits: credits,
      submit: { arena, call, token in
        let request = arena.make(
          bp_state_export(size: .size(of: bp_state_export.self), phase: phase, credits: credits, reserved: 0))
        table.pointee.export_state(self.pluginSelf, call, request, token)
      }, chunk: { $0.pointee.bytes.array }, read: { $0.code })
  }

  func importState(_ bytes: [UInt8], phase: UInt32, sequence: UInt64, isLast: Bool) async throws -> bp_code {
    let table = extensionTable("backplane.state/1", as: bp_state.self)!
    return try await call(
      bp_result.self,
      submit: { arena, call, token in
        let request = arena.make(
          bp_state_import(
            size: .size(of: bp_state_import.self), flags: isLast ? BP_STATE_LAST : 0, format_version: 1, phase: phase,
            sequence: sequence, bytes: arena.view(bytes)))
        table.pointee.import_state(self.pluginSelf, call, request, token)
      }, read: { $0.code })
  }
}

extension RequestArena {
  fileprivate func request(
    _ target: String, _ method: String = "GET", _ body: String = ""
  ) -> UnsafePointer<bp_http_request> {
    make(
      bp_http_request(
        size: .size(of: bp_http_request.self), headers_count: 0, method: view(method), target: view(target),
        headers: nil, body: view(body)))
  }
}
