import BackplaneABI
import Glibc

/// A call to a plugin as it was received: the structs that the plugin is given, in one piece of memory of malloc's, and
/// what they point at - a copy in the same piece, the frame's own memory, or shared memory. Kept until the plugin has
/// completed the call.
public struct ReceivedCall {
  /// For `free`; nil when everything lies in the frame.
  public let memory: UnsafeMutableRawPointer
  let block: SharedBlock?

  /// The memory goes, and what it pointed at.
  public func release(_ connection: Connection) {
    free(memory)
    if let block { connection.memory?.release(block) }
  }

  /// The piece: room for the structs, and for a copy of the payload when it must outlive the frame and does not by
  /// itself.
  private static func memory(
    _ frame: inout Frame, structBytes: Int, staysInFrame: Bool
  ) -> (UnsafeMutableRawPointer, WireReader) {
    let rounded = (structBytes + 15) & ~15
    let copies = !staysInFrame && frame.block == nil
    let memory = malloc(rounded + (copies ? frame.payload.count : 0))!
    guard copies, let source = frame.payload.baseAddress else {
      if frame.block != nil { frame.isTaken = true }
      return (memory, WireReader(frame.payload))
    }
    (memory + rounded).copyMemory(from: source, byteCount: frame.payload.count)
    return (memory, WireReader(UnsafeRawBufferPointer(start: memory + rounded, count: frame.payload.count)))
  }

  private static let callBytes = (MemoryLayout<bp_call>.size + 15) & ~15

  /// Nil when the frame breaks the rules. `staysInFrame`: the plugin is done with it before the frame goes.
  @inline(__always)
  private static func make<Request>(
    _ frame: inout Frame, _ type: Request.Type, staysInFrame: Bool, moreBytes: Int = 0,
    _ fill: (inout WireReader, UnsafeMutablePointer<bp_call>, UnsafeMutableRawPointer) -> Request
  ) -> (ReceivedCall, UnsafeMutablePointer<bp_call>, UnsafeMutablePointer<Request>)? {
    let requestBytes = (MemoryLayout<Request>.size + 15) & ~15
    var (memory, reader) = memory(
      &frame, structBytes: callBytes + requestBytes + moreBytes, staysInFrame: staysInFrame)
    let call = memory.assumingMemoryBound(to: bp_call.self)
    let request = (memory + callBytes).assumingMemoryBound(to: Request.self)
    request.initialize(to: fill(&reader, call, memory + callBytes + requestBytes))
    let received = ReceivedCall(memory: memory, block: frame.isTaken ? frame.block : nil)
    guard reader.isWhole else {
      // The frame's memory is given back by whoever handed it on.
      frame.isTaken = false
      free(memory)
      return nil
    }
    return (received, call, request)
  }

  public static func unit(
    _ frame: inout Frame, staysInFrame: Bool
  ) -> (received: ReceivedCall, unit: UnsafeMutablePointer<bp_unit>)? {
    guard frame.payload.count >= 4 else { return nil }
    let count = Int(frame.payload.loadUnaligned(as: UInt32.self))
    guard count >= 1, count <= frame.payload.count / WireReader.opBytesMin else { return nil }
    let token = frame.id
    let made = make(
      &frame, bp_unit.self, staysInFrame: staysInFrame, moreBytes: count * MemoryLayout<bp_op>.stride
    ) { reader, call, more in
      var unit = bp_unit()
      unit.size = UInt32(MemoryLayout<bp_unit>.size)
      _ = reader.u32()
      // Taken from the number that the room was made for.
      unit.ops_count = UInt32(count)
      unit.ts_ms = reader.u64()
      unit.version = reader.u64()
      call.initialize(to: reader.call())
      let ops = more.assumingMemoryBound(to: bp_op.self)
      for index in 0..<count { (ops + index).initialize(to: reader.op()) }
      unit.ops = UnsafePointer(ops)
      unit.token = token
      unit.call = UnsafePointer(call)
      return unit
    }
    return made.map { ($0.0, $0.2) }
  }

  public static func read(
    _ frame: inout Frame, staysInFrame: Bool
  ) -> (received: ReceivedCall, read: UnsafeMutablePointer<bp_read>)? {
    let token = frame.id
    let made = make(&frame, bp_read.self, staysInFrame: staysInFrame) { reader, call, _ in
      var read = bp_read()
      read.size = UInt32(MemoryLayout<bp_read>.size)
      read.flags = reader.u32()
      call.initialize(to: reader.call())
      read.token = token
      read.call = UnsafePointer(call)
      read.uri = reader.view()
      return read
    }
    return made.map { ($0.0, $0.2) }
  }

  public static func scan(
    _ frame: inout Frame, staysInFrame: Bool
  ) -> (received: ReceivedCall, scan: UnsafeMutablePointer<bp_scan>)? {
    let token = frame.id
    let made = make(&frame, bp_scan.self, staysInFrame: staysInFrame) { reader, call, _ in
      var scan = bp_scan()
      scan.size = UInt32(MemoryLayout<bp_scan>.size)
      scan.flags = reader.u32()
      scan.credits = reader.u32()
      call.initialize(to: reader.call())
      scan.token = token
      scan.call = UnsafePointer(call)
      scan.prefix = reader.view()
      scan.cursor = reader.view()
      return scan
    }
    return made.map { ($0.0, $0.2) }
  }

  public static func query(
    _ frame: inout Frame, staysInFrame: Bool
  ) -> (received: ReceivedCall, query: UnsafeMutablePointer<bp_query>)? {
    let token = frame.id
    let made = make(&frame, bp_query.self, staysInFrame: staysInFrame) { reader, call, _ in
      var query = bp_query()
      query.size = UInt32(MemoryLayout<bp_query>.size)
      query.flags = reader.u32()
      query.limit = reader.u32()
      query.offset = reader.u64()
      call.initialize(to: reader.call())
      query.token = token
      query.call = UnsafePointer(call)
      query.prefix = reader.view()
      return query
    }
    return made.map { ($0.0, $0.2) }
  }

  public static func judgement(
    _ frame: inout Frame, staysInFrame: Bool
  ) -> (
    received: ReceivedCall, call: UnsafeMutablePointer<bp_call>, message: UnsafeMutablePointer<bp_message>
  )? {
    let made = make(&frame, bp_message.self, staysInFrame: staysInFrame) { reader, call, _ in
      var message = bp_message()
      message.size = UInt32(MemoryLayout<bp_message>.size)
      call.initialize(to: reader.call())
      message.verb = reader.u32()
      message.content = reader.u32()
      message.depth = reader.u32()
      message.ts_ms = reader.u64()
      message.uri = reader.view()
      message.uri_received = reader.view()
      let programBytes = UInt64(reader.u32())
      message.program = bp_view(data: message.uri.data, size: min(programBytes, message.uri.size))
      message.data = reader.view()
      return message
    }
    return made.map { ($0.0, $0.1, $0.2) }
  }

  /// What a service is told of the node.
  public static func notice(
    _ frame: inout Frame
  ) -> (received: ReceivedCall, call: UnsafeMutablePointer<bp_call>)? {
    // There is nothing but the call's header.
    let made = make(&frame, UInt64.self, staysInFrame: false) { reader, call, _ in
      call.initialize(to: reader.call())
      return 0
    }
    return made.map { ($0.0, $0.1) }
  }

  public static func export(
    _ frame: inout Frame
  ) -> (
    received: ReceivedCall, call: UnsafeMutablePointer<bp_call>, request: UnsafeMutablePointer<bp_state_export>
  )? {
    let made = make(&frame, bp_state_export.self, staysInFrame: false) { reader, call, _ in
      var request = bp_state_export()
      request.size = UInt32(MemoryLayout<bp_state_export>.size)
      call.initialize(to: reader.call())
      request.phase = reader.u32()
      request.credits = reader.u32()
      return request
    }
    return made.map { ($0.0, $0.1, $0.2) }
  }

  public static func `import`(
    _ frame: inout Frame
  ) -> (
    received: ReceivedCall, call: UnsafeMutablePointer<bp_call>, request: UnsafeMutablePointer<bp_state_import>
  )? {
    let made = make(&frame, bp_state_import.self, staysInFrame: false) { reader, call, _ in
      var request = bp_state_import()
      request.size = UInt32(MemoryLayout<bp_state_import>.size)
      call.initialize(to: reader.call())
      request.flags = reader.u32()
      request.format_version = reader.u32()
      request.phase = reader.u32()
      request.sequence = reader.u64()
      request.bytes = reader.view()
      return request
    }
    return made.map { ($0.0, $0.1, $0.2) }
  }
}
