import Glibc
import NIOCore
import PluginAPI
import Synchronization
import TransportShims

/// An event loop that takes over accepted sockets.
public protocol AcceptingLoop: AnyObject, Sendable {
  var eventLoop: any EventLoop { get }
  /// Takes over a connected, non-blocking socket, which is counted in `SharedState.connectionsOpen` and must be counted
  /// down by whoever adopts it. On the loop.
  /// - Parameter isRefused: there are `connectionsMax` already: tell the client so and close.
  func adopt(_ descriptor: CInt, isRefused: Bool)
}

/// What the loops and the accepting thread of a transport share.
public final class SharedState: Sendable {
  public let connectionsOpen = Atomic<Int>(0)
  /// Of these, the ones that carry many requests at a time.
  public let multiplexedOpen = Atomic<Int>(0)
  /// Set when the loops are about to end: a completion that comes later has nobody to go to.
  public let isStopped = Atomic<Bool>(false)

  public init() {}
}

/// A thread that accepts connections from the borrowed listening socket.
///
/// NIO's own server channel is not used: it calls listen() again on the socket it is given, which would cut the backlog
/// of a socket that the kernel shares with every generation. A thread of our own can also be stopped in an instant.
public final class Acceptor: @unchecked Sendable {
  // @unchecked: `thread` is written before anyone else sees the object and read by `stop` alone, which runs once (guarded
  // by `isStopped`); everything else is constant or atomic.
  private let listener: CInt
  private let wakeReader: CInt
  private let wakeWriter: CInt
  private let loops: [any AcceptingLoop]
  private let shared: SharedState
  private let connectionsMax: Int
  private let refusedConnectionsMax: Int
  private let threadName: StaticString
  private let log: Log
  private var thread = pthread_t()
  private let isStopped = Atomic<Bool>(false)

  /// Begins to accept.
  /// - Parameters:
  ///   - listener: becomes the acceptor's, also when this throws.
  ///   - threadName: at most 15 bytes.
  ///   - connectionsMax: above it connections are refused.
  ///   - refusedConnectionsMax: how many above `connectionsMax` are still taken, to be told so; beyond them nothing is
  ///     accepted until some close.
  public init(
    listener: CInt, threadName: StaticString, loops: [any AcceptingLoop], shared: SharedState, connectionsMax: Int,
    refusedConnectionsMax: Int, log: Log
  ) throws {
    self.listener = listener
    self.loops = loops
    self.shared = shared
    self.threadName = threadName
    self.connectionsMax = connectionsMax
    self.refusedConnectionsMax = refusedConnectionsMax
    self.log = log
    var (reader, writer): (CInt, CInt) = (-1, -1)
    guard transport_pipe(&reader, &writer) == 0 else {
      let reason = errno
      close(listener)
      throw Failure.unavailable("no pipe could be made for the accepting thread (errno \(reason))")
    }
    (wakeReader, wakeWriter) = (reader, writer)
    let code = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<Acceptor>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    guard code == 0 else {
      Unmanaged.passUnretained(self).release()
      for descriptor in [listener, wakeReader, wakeWriter] { close(descriptor) }
      throw Failure.unavailable("the accepting thread could not be started (error \(code))")
    }
  }

  /// Stops accepting, closes the descriptor and joins the thread: a moment. Once is enough; more do nothing.
  public func stop() {
    guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
    var byte: UInt8 = 0
    write(wakeWriter, &byte, 1)
    pthread_join(thread, nil)
    close(wakeReader)
    close(wakeWriter)
  }

  private func run() {
    threadName.withUTF8Buffer { name in
      name.withMemoryRebound(to: CChar.self) { transport_name_thread($0.baseAddress) }
    }
    defer { close(listener) }
    var pauseMs: CInt = -1
    var nextLoop = 0
    while true {
      // While paused only the pipe is watched: the kernel's backlog, or a successor, takes what comes.
      var watched = [pollfd(fd: wakeReader, events: Int16(POLLIN), revents: 0)]
      if pauseMs < 0 { watched.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0)) }
      let ready = poll(&watched, nfds_t(watched.count), pauseMs)
      if ready < 0, errno != EINTR { return }
      if watched[0].revents != 0 { return }
      pauseMs = -1
      if watched.count == 2, watched[1].revents == 0 { continue }
      pauseMs = acceptSome(&nextLoop)
    }
  }

  /// Accepts until there is nothing, at most 64. Returns how long to pause, in milliseconds; -1: not at all.
  private func acceptSome(_ nextLoop: inout Int) -> CInt {
    for _ in 0..<64 {
      let open = shared.connectionsOpen.load(ordering: .relaxed)
      guard open < connectionsMax + refusedConnectionsMax else { return 20 }
      let descriptor = transport_accept(listener)
      if descriptor < 0 {
        switch errno {
        case EAGAIN, EWOULDBLOCK: return -1
        case EINTR, ECONNABORTED, EPROTO: continue
        default:
          // Out of descriptors or memory: others need time to give some back.
          log.warning("accepting a connection failed", ["errno": "\(errno)"])
          return 100
        }
      }
      var one: CInt = 1
      // Fails on a Unix socket, which has no such delay.
      setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<CInt>.size))
      shared.connectionsOpen.add(1, ordering: .relaxed)
      let loop = loops[nextLoop % loops.count]
      nextLoop &+= 1
      let isRefused = open >= connectionsMax
      loop.eventLoop.execute { loop.adopt(descriptor, isRefused: isRefused) }
    }
    return -1
  }
}
