import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// Runs the `backplane` that was built beside this test, as a user would.
struct CommandLineRun {
  let status: Int32
  let output: String
  let error: String

  static func run(
    _ arguments: [String], environment: [String: String] = [:], directory: String? = nil, input: String = "",
    executable: URL = executable
  ) async throws -> CommandLineRun {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.environment = ["PATH": "/usr/bin:/bin"].merging(environment) { $1 }
    if let directory { process.currentDirectoryURL = URL(fileURLWithPath: directory) }
    let (standardInput, standardOutput, standardError) = (Pipe(), Pipe(), Pipe())
    process.standardInput = standardInput
    process.standardOutput = standardOutput
    process.standardError = standardError
    return try await withCheckedThrowingContinuation { continuation in
      // A thread of its own: reading to the end blocks.
      Thread.detachNewThread {
        do {
          try process.run()
          standardInput.fileHandleForWriting.write(Data(input.utf8))
          try standardInput.fileHandleForWriting.close()
          let output = try standardOutput.fileHandleForReading.readToEnd() ?? Data()
          let error = try standardError.fileHandleForReading.readToEnd() ?? Data()
          process.waitUntilExit()
          continuation.resume(
            returning: CommandLineRun(
              status: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
              error: String(decoding: error, as: UTF8.self)))
        } catch { continuation.resume(throwing: error) }
      }
    }
  }

  /// The test's own binary lies in the folder that the build put `backplane` into.
  static var executable: URL {
    var folder = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
    if let image = ProcessInfo.processInfo.arguments.first(where: { $0.hasSuffix(".xctest") }) {
      folder = URL(fileURLWithPath: image).resolvingSymlinksInPath().deletingLastPathComponent()
    }
    return folder.appendingPathComponent("backplane")
  }
}

/// A folder for one test, removed with the value; its path is short enough for a socket.
final class TestFolder {
  let path = "/tmp/bp-cli-" + UUID().uuidString.prefix(8)

  init(_ files: [String: String] = [:]) throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    for (name, text) in files { try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/" + name)) }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A node that is none: answers every request with what the test says and tells what was asked.
final class StubNode: Sendable {
  typealias Answer = @Sendable (_ request: String, _ body: String) -> (HTTPResponseStatus, String, [UInt8])
  let channel: any Channel

  init(_ answer: @escaping Answer) async throws {
    channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Handler(answer))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
  }

  var url: String { "http://127.0.0.1:\(channel.localAddress?.port ?? 0)" }
  func stop() async throws { try await channel.close() }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let answer: Answer
    private var request = ""
    private var body: [UInt8] = []

    init(_ answer: @escaping Answer) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head): request = "\(head.method) \(head.uri)"
      case .body(let buffer): body += buffer.readableBytesView
      case .end:
        let (status, type, bytes) = answer(request, String(decoding: body, as: UTF8.self))
        var head = HTTPResponseHead(version: .http1_1, status: status)
        head.headers.add(name: "Content-Type", value: type)
        head.headers.add(name: "Content-Length", value: String(bytes.count))
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: bytes)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      }
    }
  }
}

/// A control socket that answers every line with one line, or closes when there is none to give.
final class StubControl: Sendable {
  let channel: any Channel

  init(path: String, _ answer: @escaping @Sendable (_ line: String) -> String?) async throws {
    channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Handler(answer)) }
      }
      .bind(unixDomainSocketPath: path).get()
  }

  func stop() async throws { try await channel.close() }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let answer: @Sendable (String) -> String?
    private var line = ""

    init(_ answer: @escaping @Sendable (String) -> String?) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      line += String(buffer: unwrapInboundIn(data))
      guard line.hasSuffix("\n") else { return }
      guard let text = answer(String(line.dropLast())) else {
        context.close(promise: nil)
        return
      }
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text + "\n")), promise: nil)
    }
  }
}
