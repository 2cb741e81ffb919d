import Glibc
import PluginAPI
import PluginTestHost
import Synchronization

/// Hosts one plugin file for a proxy in another process: `boundary-trial-child FILE SLOT`, the socket on descriptor 3.
/// When the socket ends this process ends: no orphan remains, whatever the plugin is doing, because the thread that
/// reads never runs plugin code that can block.
@main
enum Child {
  static let socketDescriptor: Int32 = 3

  static func main() {
    let wire = Wire(socketDescriptor)
    guard CommandLine.arguments.count == 3 else { _exit(64) }
    do {
      let host = try TestHost(creating: entry(of: CommandLine.arguments[1]), slot: CommandLine.arguments[2])
      let server = ChildServer(wire, host)
      server.hello()
      while let frame = wire.receive() {
        do { try server.serve(frame) } catch { break }
      }
    } catch {
      var hello = Frame(.hello)
      hello.put("\(error)")
      wire.send(hello)
    }
    // Not exit: it would run destructors under threads of the plugin that are still there.
    _exit(0)
  }

  private static func entry(of file: String) throws -> UnsafePointer<bp_entry> {
    guard let image = dlopen(file, RTLD_NOW | RTLD_LOCAL | Int32(RTLD_NODELETE)),
      let symbol = dlsym(image, BP_ENTRY_SYMBOL)
    else { throw Failure.invalid("dlopen: \(String(cString: dlerror()))") }
    typealias Function = @convention(c) () -> UnsafePointer<bp_entry>
    return unsafeBitCast(symbol, to: Function.self)()
  }
}

/// Turns frames into calls and completions into frames.
final class ChildServer: Sendable {
  private struct Open {
    let cancel: @Sendable () -> Void
    let grant: @Sendable (UInt32) -> Void
  }

  private let wire: Wire
  private let host: TestHost
  /// By the proxy's token: this process has tokens of its own.
  private let open = Mutex<[bp_token: Open]>([:])

  init(_ wire: Wire, _ host: TestHost) {
    self.wire = wire
    self.host = host
  }

  /// What the instance is, so that the proxy can offer the same tables.
  func hello() {
    var frame = Frame(.hello)
    frame.put("")
    let backend = host.extensionTable("backplane.backend/1", as: bp_backend.self)
    frame.put(UInt32(backend == nil ? 0 : 1))
    frame.put(backend?.pointee.flags ?? 0)
    frame.put(backend?.pointee.durability_max ?? 0)
    frame.put(UInt32(host.extensionTable("backplane.llm/1", as: bp_llm.self) == nil ? 0 : 1))
    frame.put(UInt32(host.extensionTable("backplane.transport/1", as: bp_transport.self) == nil ? 0 : 1))
    wire.send(frame)
  }

  func serve(_ received: Frame) throws {
    var frame = received
    switch frame.type {
    case .configure:
      let (json, directory) = (try frame.text(), try frame.text())
      reply { [host] in try host.configure(json, stateDirectory: directory) }
    case .start: reply { [host] in try await host.start() }
    case .quiesce:
      reply { [host] in
        try await host.quiesce()
        return []
      }
    case .stop:
      reply { [host] in
        try await host.stop()
        host.destroy()
        return []
      }
    case .lend:
      let name = try frame.text()
      guard let descriptor = wire.takeDescriptor() else { throw FrameError() }
      host.lend(name, descriptor: descriptor)
    case .apply: try apply(&frame)
    case .read: try read(&frame)
    case .scan: try scan(&frame)
    case .generate: try generate(&frame)
    case .cancel:
      let token = try frame.number()
      open.withLock { $0[token] }?.cancel()
    case .grant:
      let (token, credits) = (try frame.number(), try frame.small())
      open.withLock { $0[token] }?.grant(credits)
    default: throw FrameError()
    }
  }

  /// Answers a life-cycle frame when the step has ended, with all that the host saw go wrong.
  private func reply(_ step: @escaping @Sendable () async throws -> [Diagnostic]) {
    Task { [wire, host] in
      var frame = Frame(.reply)
      do {
        let diagnostics = try await step()
        frame.put(BP_OK)
        put(diagnostics, into: &frame)
      } catch let error as TestHostError {
        frame.put(error.code)
        put(error.diagnostics, into: &frame)
      } catch {
        frame.put(BP_INTERNAL)
        put([], into: &frame)
      }
      frame.put(host.violations.map(\.description).joined(separator: "\n"))
      wire.send(frame)
    }
  }

  private func put(_ diagnostics: [Diagnostic], into frame: inout Frame) {
    frame.put(UInt32(diagnostics.count))
    for diagnostic in diagnostics {
      frame.put(diagnostic.severity.rawValue)
      frame.put(diagnostic.pointer)
      frame.put(diagnostic.message)
    }
  }

  private func remember(_ token: bp_token, _ entry: Open, isCompleted: () -> Bool) {
    open.withLock { $0[token] = entry }
    // It may have ended before it was remembered.
    if isCompleted() { forget(token) }
  }

  private func forget(_ token: bp_token) { open.withLock { _ = $0.removeValue(forKey: token) } }

  private func end(_ type: FrameType, _ token: bp_token, _ failure: Failure?, _ fields: (inout Frame) -> Void) {
    forget(token)
    var frame = Frame(type)
    frame.put(token)
    frame.put(failure?.code ?? BP_OK)
    frame.put(failure?.message ?? "")
    frame.put(UInt32(failure?.isRetryable == true ? BP_RETRYABLE : 0))
    if failure == nil { fields(&frame) }
    wire.send(frame)
  }

  private func apply(_ frame: inout Frame) throws {
    let (token, generation) = (try frame.number(), try frame.number())
    let (timestampMs, version) = (try frame.number(), try frame.number())
    let ops = try (0..<frame.small()).map { _ in try Op(from: &frame) }
    let call = try host.beginApply(ops, timestampMs: timestampMs, version: version, generation: generation)
    remember(token, Open(cancel: { call.cancel() }, grant: { _ in }), isCompleted: { call.isCompleted })
    Task {
      switch await call.value {
      case .success(let outcome):
        end(.written, token, nil) {
          $0.put(UInt32.max)
          $0.put(outcome.durability.rawValue)
          $0.put(UInt32(outcome.absentCount))
          $0.put(outcome.timestampMs)
        }
      case .failure(let failed as PreconditionFailed):
        end(.written, token, nil) { $0.put(UInt32(failed.op)) }
      case .failure(let error): end(.written, token, Failure(error)) { _ in }
      }
    }
  }

  private func read(_ frame: inout Frame) throws {
    let (token, uri) = (try frame.number(), try frame.text())
    Task {
      do {
        let record = try await host.read(uri)
        end(.found, token, nil) {
          $0.put(UInt32(record == nil ? 0 : 1))
          guard let record else { return }
          $0.put(record.content.rawValue)
          $0.put(record.timestampMs)
          $0.put(record.version)
          $0.put(record.data)
        }
      } catch {
        end(.found, token, Failure(error)) { _ in }
      }
    }
  }

  private func scan(_ frame: inout Frame) throws {
    let (token, prefix) = (try frame.number(), try frame.text())
    let (cursor, limit) = (try frame.data(), try frame.small())
    Task {
      do {
        let page = try await host.scanPage(prefix: prefix, after: cursor, limit: limit)
        end(.page, token, nil) {
          $0.put(page.cursor ?? [])
          $0.put(UInt32(page.items.count))
          for item in page.items {
            $0.put(item.uri)
            $0.put(item.timestampMs)
            $0.put(item.version)
            $0.put(UInt64(item.sizeBytes))
            $0.put(item.content.rawValue)
          }
        }
      } catch {
        end(.page, token, Failure(error)) { _ in }
      }
    }
  }

  private func generate(_ frame: inout Frame) throws {
    let (token, credits) = (try frame.number(), try frame.small())
    let (model, json) = (try frame.data(), try frame.data())
    guard let table = host.extensionTable("backplane.llm/1", as: bp_llm.self)?.pointee else { throw FrameError() }
    let plugin = host.pluginSelf
    let stream = try host.stream(
      bp_llm_result.self, credits: credits,
      submit: { arena, call, token in
        let request = arena.make(
          bp_llm_request(
            size: .size(of: bp_llm_request.self), credits: credits, model: arena.view(model), json: arena.view(json)))
        table.generate(plugin, call, request, token)
      },
      chunk: { raw in
        let chunk = UnsafeRawPointer(raw).load(as: bp_llm_chunk.self)
        var frame = Frame(.chunk)
        frame.put(token)
        frame.put(chunk.type)
        frame.put(chunk.index)
        frame.put(chunk.chunk.bytes.array)
        return frame
      },
      read: { raw in
        var frame = Frame(.generated)
        frame.put(token)
        frame.put(raw.result.code)
        frame.put(raw.result.message.array)
        frame.put(raw.flags)
        frame.put(raw.output_tokens)
        frame.put(raw.finish_reason.array)
        return frame
      })
    remember(
      token, Open(cancel: { stream.cancel() }, grant: { stream.grant($0) }), isCompleted: { stream.isCompleted })
    Task {
      for await chunk in stream.chunks { wire.send(chunk) }
      let last = await stream.value
      forget(token)
      wire.send(last)
    }
  }
}

extension Op {
  init(from frame: inout Frame) throws {
    let (verb, condition, version) = (try frame.small(), try frame.small(), try frame.number())
    let (content, uri, data) = (try frame.small(), try frame.text(), try frame.data())
    let conditions: [Condition] = [.any, .absent, .present, .version(version)]
    guard conditions.indices.contains(Int(condition)) else { throw FrameError() }
    self.init(
      verb == BP_VERB_DELETE ? .delete : .put(data: data, content: Content(rawValue: content) ?? .bytes), uri: uri,
      if: conditions[Int(condition)])
  }
}
