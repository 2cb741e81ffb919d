import Glibc
import SystemShims

/// One frame as it arrived.
public struct Frame {
  /// Nil when this build knows no such kind.
  public let kind: FrameKind?
  public let id: UInt64
  /// Valid until `handle` returns, unless `owned` says otherwise.
  public let payload: UnsafeRawBufferPointer
  /// Memory of malloc's that holds the payload: a handler that keeps it sets `isTaken` and frees it.
  public let owned: UnsafeMutableRawPointer?
  public var isTaken = false
  /// Shared memory that holds the payload: a handler that keeps it sets `isTaken` and releases it.
  let block: SharedBlock?
}

public protocol FrameHandler: AnyObject {
  /// False when the frame breaks the rules: the stream is ended.
  func handle(_ frame: inout Frame) -> Bool
}

/// The reading half of a stream of frames, on a thread that blocks in the system while nothing comes.
public struct Receiver {
  /// How large payloads in shared memory are handed on.
  public enum Trust: Sendable {
    /// Copied first: the sender could change them while they are looked at.
    case copies
    /// In place.
    case inPlace
  }

  public enum Ending: Error, Sendable {
    /// The other side has closed it, or this one.
    case closed
    /// The other side broke the rules: a sentence's end.
    case violation(String)
  }

  private static let bufferBytes = 1 << 20

  /// Reads and hands on until the stream ends. What `handler` sends meanwhile is written in batches.
  public static func run(_ connection: Connection, _ trust: Trust, _ handler: any FrameHandler) -> Ending {
    var capacity = bufferBytes
    var buffer = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    defer { buffer.deallocate() }
    var start = 0
    var end = 0
    while true {
      // A whole header, and what it announces.
      var wanted = Wire.headerBytes
      if end - start >= Wire.headerBytes {
        let size = Int((buffer + start).loadUnaligned(as: UInt32.self))
        guard size <= Wire.payloadSizeBytesMax else { return .violation("it announced a frame of \(size) bytes") }
        wanted += size
      }
      if end - start < wanted {
        if start > 0 {
          buffer.copyMemory(from: buffer + start, byteCount: end - start)
          end -= start
          start = 0
        }
        if wanted > capacity || (capacity > bufferBytes && wanted <= bufferBytes) {
          // A frame that is longer than the buffer gets one of its own, for as long as it takes.
          let size = max(wanted, bufferBytes)
          let other = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
          other.copyMemory(from: buffer, byteCount: end)
          buffer.deallocate()
          buffer = other
          capacity = size
        }
        let count = read(connection.descriptor, buffer + end, capacity - end)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return .closed }
        end += count
        continue
      }
      connection.beginBatch()
      var isSound = true
      var isWhole = true
      while isSound, isWhole {
        let size = Int((buffer + start).loadUnaligned(as: UInt32.self))
        isSound = handOn(buffer + start, size, connection, trust, handler)
        start += Wire.headerBytes + size
        isWhole = false
        if end - start >= Wire.headerBytes {
          let next = Int((buffer + start).loadUnaligned(as: UInt32.self))
          isWhole = next <= Wire.payloadSizeBytesMax && end - start >= Wire.headerBytes + next
        }
      }
      connection.endBatch()
      guard isSound else { return .violation("it sent a frame that breaks the rules") }
      if start == end {
        start = 0
        end = 0
      }
    }
  }

  @inline(__always)
  private static func handOn(
    _ header: UnsafeMutableRawPointer, _ size: Int, _ connection: Connection, _ trust: Trust,
    _ handler: any FrameHandler
  ) -> Bool {
    let kind = FrameKind(rawValue: (header + 4).loadUnaligned(as: UInt16.self))
    let flags = (header + 6).loadUnaligned(as: UInt16.self)
    let id = (header + 8).loadUnaligned(as: UInt64.self)
    let inline = UnsafeRawBufferPointer(start: header + Wire.headerBytes, count: size)
    guard flags & Wire.isShared != 0 else {
      var frame = Frame(kind: kind, id: id, payload: inline, owned: nil, block: nil)
      return handler.handle(&frame)
    }
    return handOnShared(kind, id, inline, connection, trust, handler)
  }

  @inline(never)
  private static func handOnShared(
    _ kind: FrameKind?, _ id: UInt64, _ inline: UnsafeRawBufferPointer, _ connection: Connection, _ trust: Trust,
    _ handler: any FrameHandler
  ) -> Bool {
    guard let memory = connection.memory, inline.count == MemoryLayout<SharedBlock>.size else { return false }
    let block = inline.loadUnaligned(as: SharedBlock.self)
    guard let place = memory.place(of: block) else { return false }
    switch trust {
    case .inPlace:
      var frame = Frame(kind: kind, id: id, payload: place, owned: nil, block: block)
      let isSound = handler.handle(&frame)
      if !frame.isTaken { memory.release(block) }
      return isSound
    case .copies:
      guard let copy = malloc(max(1, place.count)) else { return false }
      if let source = place.baseAddress { copy.copyMemory(from: source, byteCount: place.count) }
      memory.release(block)
      var frame = Frame(
        kind: kind, id: id, payload: UnsafeRawBufferPointer(start: copy, count: place.count), owned: copy, block: nil)
      let isSound = handler.handle(&frame)
      if !frame.isTaken { free(copy) }
      return isSound
    }
  }
}
