import PluginAPI

/// backplane.node/1 in front of a TestNode.
enum NodeTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_node> = {
    let table = UnsafeMutablePointer<bp_node>.allocate(capacity: 1)
    table.initialize(
      to: bp_node(
        size: .size(of: bp_node.self), reserved: 0,
        receive: { instance, call, request, completion in
          let uri = request!.pointee.uri.text
          let data = request!.pointee.data
          let bytes = Array(UnsafeBufferPointer(start: data.data, count: Int(data.size)))
          // Ownership passed to us, whatever the answer.
          data.release?(data.owner)
          let content = Content(rawValue: request!.pointee.content) ?? .bytes
          return submit(instance, "node.receive", call, completion, as: bp_write_result.self) { node, call in
            write(try await node.receive(uri, bytes, content, call))
          }
        },
        read: { instance, call, uri, completion in
          let uri = uri.text
          return submit(instance, "node.read", call, completion, as: bp_read_result.self) { node, call in
            guard let record = try await node.read(uri, call) else { return .init(notFound(bp_read_result.self)) }
            return readAnswer(record)
          }
        },
        read_multi: { instance, call, uris, count, completion in
          let uris = UnsafeBufferPointer(start: uris, count: Int(count)).map(\.text)
          return readMulti(instance, call, uris, completion)
        },
        list: { instance, call, request, completion in
          let raw = request!.pointee
          let request = ListRequest(
            uri: raw.uri.text, pattern: raw.pattern.text, sort: raw.sort,
            isDescending: raw.flags & BP_LIST_DESCENDING != 0, page: raw.page, limit: raw.limit)
          return submit(instance, "node.list", call, completion, as: bp_list_result.self) { node, call in
            listAnswer(try await node.list(request, call), request)
          }
        },
        remove: { instance, call, uri, completion in
          let uri = uri.text
          return submit(instance, "node.remove", call, completion, as: bp_write_result.self) { node, call in
            guard let outcome = try await node.remove(uri, call) else {
              return .init(notFound(bp_write_result.self))
            }
            return write(outcome)
          }
        },
        programs: { instance, context, add in
          guard let core = HostRegistry.find(instance, "node.programs"), !core.isProbe else { return }
          for program in core.node.programs() { program.withView { add?(context, $0) } }
        },
        normalise: { instance, uri, sink in
          guard let core = HostRegistry.find(instance, "node.normalise") else { return BP_CLOSED }
          guard let normal = core.node.normalise(uri.text) else { return BP_INVALID_ARGUMENT }
          normal.withView { sink.write(sink.context, $0) }
          return BP_OK
        }))
    return UnsafePointer(table)
  }()

  /// An answer on its way to the plugin; `deliver` lays it out and keeps its views alive while `body` runs.
  struct Answer<T>: Sendable {
    let deliver: @Sendable (_ body: (inout T) -> Void) -> Void

    init(deliver: @escaping @Sendable (_ body: (inout T) -> Void) -> Void) { self.deliver = deliver }

    /// An answer without views of its own.
    init(_ value: @autoclosure @escaping @Sendable () -> T) {
      deliver = { body in
        var value = value()
        body(&value)
      }
    }
  }

  /// Runs a node call in a task of its own and completes it exactly once.
  private static func submit<T: BitwiseCopyable>(
    _ instance: bp_instance, _ function: StaticString, _ call: UnsafePointer<bp_call>?, _ completion: bp_completion,
    as type: T.Type, _ body: @escaping @Sendable (any TestNode, NodeCall) async throws -> Answer<T>
  ) -> bp_token {
    let answerTo = Completion(completion)
    guard let core = HostRegistry.find(instance, function) else {
      answerTo.fail(Failure(code: BP_CLOSED, "the instance is destroyed"), as: type)
      return 0
    }
    guard !core.isProbe, core.life >= .starting else {
      answerTo.fail(.unavailable("there is no node here: \(core.isProbe ? "a probe" : "not started")"), as: type)
      return 0
    }
    guard core.life < .stopped else {
      answerTo.fail(Failure(code: BP_CLOSED, "the instance is stopped"), as: type)
      return 0
    }
    let nodeCall = NodeCall(call)
    return core.startHostCall { core in
      do {
        let answer = try await body(core.node, nodeCall)
        answer.deliver { answerTo.complete(&$0) }
      } catch {
        answerTo.fail(Failure(error), as: type)
      }
    }
  }

  private static func readMulti(
    _ instance: bp_instance, _ call: UnsafePointer<bp_call>?, _ uris: [String], _ completion: bp_completion
  ) -> bp_token {
    let chunks = Completion(completion)
    return submit(instance, "node.read_multi", call, completion, as: bp_result.self) { node, call in
      guard uris.count <= 50 else { throw Failure.invalid("read_multi takes at most 50 URIs, not \(uris.count)") }
      for (index, uri) in uris.enumerated() {
        let answer: Answer<bp_read_result>
        do {
          let record = try await node.read(uri, call)
          answer = record.map(readAnswer) ?? .init(notFound(bp_read_result.self))
        } catch {
          answer = failed(Failure(error))
        }
        answer.deliver { read in
          withUnsafePointer(to: &read) { pointer in
            var item = bp_read_item(
              chunk: bp_chunk(size: .size(of: bp_read_item.self), count: 1, bytes: .empty), index: UInt32(index),
              reserved: 0, read: pointer)
            chunks.chunk(&item)
          }
        }
      }
      return .init(.ok(bp_result.self))
    }
  }

  private static func write(_ outcome: WriteOutcome) -> Answer<bp_write_result> {
    .init(
      bp_write_result(
        result: .ok(bp_write_result.self), durability: outcome.durability.rawValue,
        absent_count: UInt32(outcome.absentCount), failed_op: 0, reserved: 0, ts_ms: outcome.timestampMs))
  }

  private static func readAnswer(_ record: Record) -> Answer<bp_read_result> {
    Answer { body in
      record.data.withView { data in
        var result = bp_read_result(
          result: .ok(bp_read_result.self),
          record: bp_record(
            size: .size(of: bp_record.self), content: record.content.rawValue, ts_ms: record.timestampMs,
            version: record.version, data: data))
        body(&result)
      }
    }
  }

  private static func failed(_ failure: Failure) -> Answer<bp_read_result> {
    Answer { body in
      failure.withResult(size: .size(of: bp_read_result.self)) { head in
        var result = bp_read_result()
        result.result = head
        body(&result)
      }
    }
  }

  private static func listAnswer(_ page: ListPage, _ request: ListRequest) -> Answer<bp_list_result> {
    Answer { body in
      let arena = RequestArena()
      var result = bp_list_result(
        result: .ok(bp_list_result.self), uris: arena.makeArray(page.uris.map { arena.view($0) }),
        uris_count: UInt64(page.uris.count), total: page.total, page: request.page, limit: request.limit)
      withExtendedLifetime(arena) { body(&result) }
    }
  }

  /// A zeroed result struct that says NOT_FOUND.
  private static func notFound<T: BitwiseCopyable>(_ type: T.Type) -> T {
    withUnsafeTemporaryAllocation(byteCount: MemoryLayout<T>.size, alignment: 16) { raw in
      raw.initializeMemory(as: UInt8.self, repeating: 0)
      raw.storeBytes(of: .code(BP_NOT_FOUND, type), as: bp_result.self)
      return raw.load(as: type)
    }
  }
}

/// A plugin's completion, to be called once.
struct Completion: @unchecked Sendable {
  // @unchecked: the boundary allows the functions to be called on any thread; the context is the plugin's to guard.
  private let raw: bp_completion
  init(_ raw: bp_completion) { self.raw = raw }

  func complete<T>(_ result: inout T) {
    withUnsafePointer(to: &result) {
      raw.complete(raw.context, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
    }
  }

  func fail<T>(_ failure: Failure, as type: T.Type) {
    withUnsafeTemporaryAllocation(byteCount: MemoryLayout<T>.size, alignment: 16) { raw in
      raw.initializeMemory(as: UInt8.self, repeating: 0)
      let pointer = raw.baseAddress!.assumingMemoryBound(to: bp_result.self)
      failure.withResult(size: .size(of: type)) { result in
        pointer.pointee = result
        self.raw.complete(self.raw.context, pointer)
      }
    }
  }

  func chunk<T>(_ chunk: inout T) {
    withUnsafePointer(to: &chunk) {
      raw.chunk?(raw.context, UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self))
    }
  }
}

extension NodeCall {
  init(_ call: UnsafePointer<bp_call>?) {
    self.init(
      parent: call?.pointee.parent ?? 0, deadlineNs: call?.pointee.deadline_ns ?? 0,
      peer: call?.pointee.peer.text ?? "")
  }
}

extension HostCore {
  /// Runs one call of the plugin's to the host in a task that `bp_host.cancel` reaches.
  func startHostCall(_ body: @escaping @Sendable (HostCore) async -> Void) -> bp_token {
    state.withLock { state in
      let token = state.hostCallsNext
      state.hostCallsNext += 1
      // Made under the lock, so that the task cannot end before it is remembered.
      state.hostCalls[token] = Task {
        await body(self)
        self.state.withLock { _ = $0.hostCalls.removeValue(forKey: token) }
      }
      return token
    }
  }

  /// Cancels the plugin's calls to the host and waits until each has been completed: nothing of the instance may run
  /// after `stop` has begun.
  func finishHostCalls() async {
    for task in state.withLock({ Array($0.hostCalls.values) }) {
      task.cancel()
      await task.value
    }
    await feed.endAll(of: self)
    timers.endAll(of: self)
  }
}
