import PluginAPI

@testable import boundary_trial_child

/// Frames from the child as the boundary's results, on the proxy's reader thread. Views point into the frame.
enum ProxyAnswers {
  static func written(_ frame: inout Frame, _ token: bp_token, _ host: HostHandle) throws {
    let failedOp = try frame.small()
    var result = bp_write_result()
    if failedOp == .max {
      result.result = .ok(bp_write_result.self)
      result.durability = try frame.small()
      result.absent_count = try frame.small()
      result.ts_ms = try frame.number()
    } else {
      result.result = .code(BP_FAILED_PRECONDITION, bp_write_result.self)
      result.failed_op = failedOp
    }
    host.complete(token, with: &result)
  }

  static func found(_ frame: inout Frame, _ token: bp_token, _ host: HostHandle) throws {
    var result = bp_read_result()
    result.record.size = .size(of: bp_record.self)
    guard try frame.small() == 1 else {
      result.result = .code(BP_NOT_FOUND, bp_read_result.self)
      return host.complete(token, with: &result)
    }
    result.result = .ok(bp_read_result.self)
    result.record.content = try frame.small()
    result.record.ts_ms = try frame.number()
    result.record.version = try frame.number()
    let data = try frame.data()
    data.withView { view in
      result.record.data = view
      host.complete(token, with: &result)
    }
  }

  static func page(_ frame: inout Frame, _ token: bp_token, _ host: HostHandle) throws {
    let cursor = try frame.data()
    var text: [UInt8] = []
    var ends: [Int] = []
    var items: [bp_scan_item] = []
    for _ in 0..<(try frame.small()) {
      text += try frame.data()
      ends.append(text.count)
      items.append(
        bp_scan_item(
          uri: .empty, ts_ms: try frame.number(), version: try frame.number(), size_bytes: try frame.number(),
          content: try frame.small(), reserved: 0))
    }
    text.withUnsafeBufferPointer { text in
      for index in items.indices {
        let start = index == 0 ? 0 : ends[index - 1]
        items[index].uri = bp_view(BorrowedBytes(rebasing: text[start..<ends[index]]))
      }
      cursor.withView { cursor in
        items.withUnsafeBufferPointer { items in
          var result = bp_scan_result(
            result: .ok(bp_scan_result.self), items: items.baseAddress, items_count: UInt32(items.count),
            item_size: .size(of: bp_scan_item.self), cursor: cursor)
          host.complete(token, with: &result)
        }
      }
    }
  }

  static func chunk(_ frame: inout Frame, _ host: HostHandle) throws {
    let token = try frame.number()
    let (type, index) = (try frame.small(), try frame.small())
    let bytes = try frame.data()
    bytes.withView { view in
      var chunk = bp_llm_chunk(
        chunk: bp_chunk(size: .size(of: bp_llm_chunk.self), count: 1, bytes: view), type: type, index: index)
      withUnsafePointer(to: &chunk) {
        // Credit was counted in the child, by the same grants; a caller that has gone is told to the child by cancel.
        _ = host.table.pointee.emit(host.instance, token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self))
      }
    }
  }

  static func generated(_ frame: inout Frame, _ token: bp_token, _ host: HostHandle) throws {
    let code = try frame.small()
    let message = try frame.data()
    let flags = try frame.small()
    let output = try frame.number()
    let reason = try frame.data()
    message.withView { message in
      reason.withView { reason in
        var result = bp_llm_result()
        result.result = .code(code, bp_llm_result.self)
        result.result.message = message
        result.flags = flags
        result.output_tokens = output
        result.finish_reason = reason
        host.complete(token, with: &result)
      }
    }
  }
}
