import PluginAPI

/// A copy of a node's result and everything its views point to, in one piece of memory: for completions that come on
/// another thread, whose views end when the completion returns.
public struct OwnedResult: @unchecked Sendable {
  // @unchecked: the memory is written before the value is handed on and freed once, by whoever consumes it.
  let memory: UnsafeMutableRawPointer

  public var read: UnsafePointer<bp_read_result> { UnsafePointer(memory.assumingMemoryBound(to: bp_read_result.self)) }
  public var write: UnsafePointer<bp_write_result> {
    UnsafePointer(memory.assumingMemoryBound(to: bp_write_result.self))
  }
  public var list: UnsafePointer<bp_list_result> { UnsafePointer(memory.assumingMemoryBound(to: bp_list_result.self)) }
  public var plain: UnsafePointer<bp_result> { UnsafePointer(memory.assumingMemoryBound(to: bp_result.self)) }

  public static func read(_ result: UnsafePointer<bp_read_result>) -> OwnedResult {
    var copy = result.pointee
    let isFound = copy.result.code == BP_OK
    if !isFound { copy.record = bp_record() }
    let bytes = Int(copy.result.message.size + copy.record.data.size)
    var builder = Builder(headerOf: bp_read_result.self, bytes: bytes)
    copy.result.message = builder.keep(copy.result.message)
    copy.result.detail = .empty
    copy.record.data = builder.keep(copy.record.data)
    return builder.finish(copy)
  }

  public static func write(_ result: UnsafePointer<bp_write_result>) -> OwnedResult {
    var copy = result.pointee
    var builder = Builder(headerOf: bp_write_result.self, bytes: Int(copy.result.message.size))
    copy.result.message = builder.keep(copy.result.message)
    copy.result.detail = .empty
    return builder.finish(copy)
  }

  public static func plain(_ result: UnsafePointer<bp_result>) -> OwnedResult {
    var copy = result.pointee
    var builder = Builder(headerOf: bp_result.self, bytes: Int(copy.message.size))
    copy.message = builder.keep(copy.message)
    copy.detail = .empty
    return builder.finish(copy)
  }

  public static func list(_ result: UnsafePointer<bp_list_result>) -> OwnedResult {
    var copy = result.pointee
    let count = copy.result.code == BP_OK && copy.uris != nil ? Int(copy.uris_count) : 0
    var bytes = Int(copy.result.message.size) + count * MemoryLayout<bp_view>.stride
    for index in 0..<count { bytes += Int(copy.uris[index].size) }
    var builder = Builder(headerOf: bp_list_result.self, bytes: bytes)
    // The array first: the header's size keeps it aligned.
    let views = builder.reserve(count * MemoryLayout<bp_view>.stride).assumingMemoryBound(to: bp_view.self)
    for index in 0..<count { views[index] = builder.keep(copy.uris[index]) }
    copy.uris = UnsafePointer(views)
    copy.uris_count = UInt64(count)
    copy.result.message = builder.keep(copy.result.message)
    copy.result.detail = .empty
    return builder.finish(copy)
  }

  /// Once, by whoever consumed it.
  public func free() { memory.deallocate() }

  private struct Builder {
    let memory: UnsafeMutableRawPointer
    var offset: Int

    init<Header>(headerOf type: Header.Type, bytes: Int) {
      let header = MemoryLayout<Header>.size
      memory = .allocate(byteCount: header + bytes, alignment: 16)
      offset = header
    }

    mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
      defer { offset += count }
      return memory + offset
    }

    mutating func keep(_ view: bp_view) -> bp_view {
      guard view.size > 0, let data = view.data else { return .empty }
      let place = reserve(Int(view.size))
      place.copyMemory(from: data, byteCount: Int(view.size))
      return bp_view(data: place.assumingMemoryBound(to: UInt8.self), size: view.size)
    }

    func finish<Header>(_ header: Header) -> OwnedResult {
      memory.initializeMemory(as: Header.self, to: header)
      return OwnedResult(memory: memory)
    }
  }
}
