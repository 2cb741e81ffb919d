import Glibc
import NIOCore
import NIOPosix
import PluginAPI
import Synchronization
import TransportSupport
import WebSocketTransport

/// The running server: event loops, the accepting thread, and how both end.
final class HTTPServer: Sendable {
  private let group: MultiThreadedEventLoopGroup
  private let loops: [LoopState]
  private let acceptor: Acceptor
  private let shared: SharedState
  private let certificates: CertificateStore?

  /// Begins to serve.
  /// - Parameter listener: a listening descriptor, non-blocking; becomes the server's, also when this throws.
  init(listener: CInt, limits: Limits, context: Context) throws {
    let table: NodeTable
    do { table = try NodeTable(context) } catch {
      close(listener)
      throw error
    }
    do { certificates = try limits.tls.map { try CertificateStore($0, context: context) } } catch {
      close(listener)
      throw error
    }
    let certificates = certificates
    let shared = SharedState()
    let series = Series(context.metrics, hasTLS: certificates != nil)
    let webSocketShared = WebSocketShared()
    let webSocketSeries = limits.webSocket.map { _ in WebSocketSeries(context.metrics) }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: limits.loops)
    let loops = group.makeIterator().map {
      LoopState(
        $0, table: table, limits: limits, shared: shared, series: series, certificates: certificates,
        webSocketShared: webSocketShared, webSocketSeries: webSocketSeries)
    }
    self.group = group
    self.loops = loops
    self.shared = shared
    do {
      acceptor = try Acceptor(
        listener: listener, threadName: "http-accept", loops: loops, shared: shared,
        connectionsMax: limits.connectionsMax, refusedConnectionsMax: Limits.refusedConnectionsMax, log: context.log)
    } catch {
      // Nothing runs on the loops yet; the threads must not stay.
      certificates?.stop()
      try? group.syncShutdownGracefully()
      throw error
    }
    for loop in loops { loop.eventLoop.execute { loop.start() } }
  }

  var connections: Int { max(0, shared.connectionsOpen.load(ordering: .relaxed)) }

  /// Stops accepting at once; lets each connection end with its next answer; just before the deadline closes those on
  /// which nothing goes on. Returns when none is left, or at the deadline.
  func quiesce(deadlineNs: UInt64) async {
    acceptor.stop()
    let now = monotonicNs()
    let left = Int64(clamping: deadlineNs > now ? deadlineNs - now : 0)
    // The last tenth, at most half a second, is for clients to see the end of idle connections before we must be gone.
    let margin = min(left / 10, 500_000_000)
    await onEachLoop { loop in
      loop.beginDraining()
      let idle = loop.eventLoop.scheduleTask(in: .nanoseconds(left - margin)) { loop.closeIdle() }
      let end = loop.eventLoop.scheduleTask(in: .nanoseconds(left)) { loop.stopWaiting() }
      return loop.whenEmpty().always { _ in
        idle.cancel()
        end.cancel()
      }
    }
  }

  /// Closes what is left, gives up open calls, and joins every thread.
  func stop() async {
    acceptor.stop()
    certificates?.stop()
    await onEachLoop { loop in
      loop.closeAll()
      // Cancelled calls complete soon; one that does not finds nobody (SharedState.isStopped).
      let end = loop.eventLoop.scheduleTask(in: .milliseconds(500)) { loop.stopWaiting() }
      return loop.whenEmpty().always { _ in end.cancel() }
    }
    shared.isStopped.store(true, ordering: .releasing)
    await onEachLoop { loop in
      loop.stop()
      return loop.eventLoop.makeSucceededVoidFuture()
    }
    try? await group.shutdownGracefully()
  }

  private func onEachLoop(_ body: @escaping @Sendable (LoopState) -> EventLoopFuture<Void>) async {
    let futures = loops.map { loop in loop.eventLoop.flatSubmit { body(loop) } }
    for future in futures { try? await future.get() }
  }
}
