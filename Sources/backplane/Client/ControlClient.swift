import Glibc
import NIOCore
import NIOPosix

/// Asks a running node over its control socket, a Unix stream socket of mode 0600.
///
/// One line of JSON each way, then the node closes: `{"command":"reload",…}`, answered by `{"ok":true,…}` or
/// `{"ok":false,"code":"configuration"|"unavailable"|"usage"|"internal"|"refused","message":"…"}`.
/// docs/command-line.md has the commands and their answers.
enum ControlClient {
  /// A status of a node with many slots is some tens of KiB; more than this is no answer of ours.
  static let answerSizeBytesMax = 16 << 20

  /// Whether somebody listens there.
  static func isServed(socket path: String) -> Bool {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return false }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 || errno == EACCES
      }
    }
  }

  /// The answer's members when it is `ok`. Blocks no thread; bounded by `timeoutSeconds` in all.
  static func ask(_ request: JSONValue, socket: String, timeoutSeconds: Int) async throws -> JSONValue {
    let line = try await answer(to: request, socket: socket, timeoutSeconds: timeoutSeconds)
    guard let answer = JSONValue.parse(line), let isGood = answer["ok"] else {
      throw CommandFailure(.internal, "the node's answer on \(socket) is not what this program knows.")
    }
    guard isGood == .bool(true) else {
      throw CommandFailure(
        ExitStatus(word: answer["code"]?.string ?? ""),
        answer["message"]?.string ?? "the node refused without a reason.")
    }
    return answer
  }

  private static func answer(to request: JSONValue, socket: String, timeoutSeconds: Int) async throws -> [UInt8] {
    let group = MultiThreadedEventLoopGroup.singleton
    let promise = group.next().makePromise(of: [UInt8].self)
    let timeout = TimeAmount.seconds(Int64(timeoutSeconds))
    let channel: any Channel
    do {
      channel = try await ClientBootstrap(group: group)
        .connectTimeout(timeout)
        .channelOption(.allowRemoteHalfClosure, value: true)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(LineHandler(promise, sizeBytesMax: answerSizeBytesMax))
          }
        }
        .connect(unixDomainSocketPath: socket).get()
    } catch {
      promise.fail(error)
      throw CommandFailure(.unavailable, "no node answers on \(socket): \(reason(error)). Is it running?")
    }
    let timer = channel.eventLoop.scheduleTask(in: timeout) {
      promise.fail(
        CommandFailure(.unavailable, "the node did not answer on \(socket) within \(timeoutSeconds) s (--timeout)."))
    }
    promise.futureResult.whenComplete { _ in
      timer.cancel()
      channel.close(promise: nil)
    }
    channel.writeAndFlush(ByteBuffer(string: request.text + "\n"), promise: nil)
    return try await promise.futureResult.get()
  }

  private static func reason(_ error: any Error) -> String {
    guard let error = error as? IOError else { return "\(error)" }
    switch error.errnoCode {
    case 2: return "there is no such socket"
    case 13: return "permission denied; only the node's own user may"
    case 111: return "nobody listens"
    default: return String(describing: error)
    }
  }

  /// Gathers bytes up to the first line break.
  private final class LineHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let promise: EventLoopPromise<[UInt8]>
    private let sizeBytesMax: Int
    private var bytes: [UInt8] = []

    init(_ promise: EventLoopPromise<[UInt8]>, sizeBytesMax: Int) {
      self.promise = promise
      self.sizeBytesMax = sizeBytesMax
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let buffer = unwrapInboundIn(data)
      let start = bytes.count
      bytes.append(contentsOf: buffer.readableBytesView)
      if let end = bytes[start...].firstIndex(of: 0x0A) {
        promise.succeed(Array(bytes[..<end]))
      } else if bytes.count > sizeBytesMax {
        promise.fail(CommandFailure(.internal, "the node's answer is longer than \(sizeBytesMax >> 20) MiB."))
      }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if let event = event as? ChannelEvent, event == .inputClosed { end() }
      context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) { end() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      promise.fail(CommandFailure(.unavailable, "the connection to the node broke: \(error)."))
      context.close(promise: nil)
    }

    /// A promise that was kept already ignores this.
    private func end() {
      promise.fail(CommandFailure(.unavailable, "the node closed the connection without an answer."))
    }
  }
}
