/// A transport in Swift.
enum SwiftTransportTemplate {
  /// The plugin.
  static let code =
    ##"""
    import Glibc
    import PluginAPI
    import Synchronization

    /// A transport of lines over TCP: `GET URI` and `PUT URI JSON`, one answer for each line.
    ///
    /// One thread waits for all sockets; the node's answers come from other threads and wake it through a pipe.
    final class {{Module}}: Transport {
      struct Configuration: Decodable {
        /// The kernel binds the port; see "listeners" in manifest.json.
        var port: Int?
      }

      private let context: Context
      private let state = Mutex(State())
      private struct State {
        var thread: LineThread?
        var connectionsCount = 0
      }

      init(_ configuration: Configuration, _ context: Context) { self.context = context }

      func start() async throws {
        let listener = try context.borrowListener("lines")
        let node = context.node
        let thread = try LineThread(
          listener: listener.descriptor,
          answer: { line in await LineProtocol.answer(line, node) },
          counted: { [self] count in state.withLock { $0.connectionsCount = count } })
        state.withLock { $0.thread = thread }
      }

      func quiesce(_ deadline: Deadline) async { end(byNs: deadline.monotonicNs) }
      func stop() async { end(byNs: 0) }
      func connections() -> Int { state.withLock { $0.connectionsCount } }

      /// Accepts no more, lets what has been asked be answered until then, and joins the thread.
      private func end(byNs deadlineNs: UInt64) {
        let thread = state.withLock { state in
          defer { state.thread = nil }
          return state.thread
        }
        thread?.end(byNs: deadlineNs)
      }
    }

    /// What a line means.
    enum LineProtocol {
      static func answer(_ line: String, _ node: NodeAccess) async -> String {
        let words = line.split(separator: " ", maxSplits: 2).map(String.init)
        do {
          switch (words.first, words.count) {
          case ("GET", 2):
            guard let record = try await node.read(words[1]) else { return "NONE" }
            return "OK " + String(decoding: record.data, as: UTF8.self)
          case ("PUT", 3):
            // Whoever sends JSON to the node has checked it; this transport has not, so the node gets bytes.
            try await node.receive(words[1], Array(words[2].utf8), .bytes)
            return "OK"
          default: return "ERROR say GET URI or PUT URI DATA"
          }
        } catch { return "ERROR \(Failure(error).message)" }
      }
    }

    // Id and version as in manifest.json: the kernel compares them.
    let plugin = PluginEntry({{Module}}.self, id: "{{id}}", version: "1.0.0") {
      {{Module}}.create($0, $1, $2)
    }
    @c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }

    """##

  /// LineThread.swift.
  static let thread =
    ##"""
    import Glibc
    import PluginAPI
    import Synchronization

    /// The thread that does all of a transport's socket work.
    final class LineThread: Sendable {
      static let connectionsMax = 256
      static let lineBytesMax = 65_536

      private struct Connection {
        var descriptor: Int32
        var received: [UInt8] = []
        var sending: [UInt8] = []
        /// One line at a time; nothing is read meanwhile, so a client that does not listen is not served further.
        var isAnswering = false
        /// Nothing more is read.
        var isAtEnd = false
        var isOver: Bool { isAtEnd && !isAnswering && sending.isEmpty }
      }

      /// What other threads hand to this one.
      private struct Mail {
        var answers: [(connection: Int, line: String)] = []
        var endNs: UInt64?
        var isWoken = false
      }

      private let mail = Mutex(Mail())
      private let listener: Int32
      private let wakeRead: Int32
      private let wakeWrite: Int32
      private let answer: @Sendable (String) async -> String
      private let counted: @Sendable (Int) -> Void
      private let thread = Mutex<pthread_t?>(nil)

      /// Owns `listener` from now on. `answer` is asked for each line; `counted` hears how many connections are open.
      init(
        listener: Int32, answer: @escaping @Sendable (String) async -> String, counted: @escaping @Sendable (Int) -> Void
      ) throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
          close(listener)
          throw Failure.unavailable("no pipe could be made (errno \(errno))")
        }
        ends.forEach(Self.prepare)
        self.listener = listener
        (wakeRead, wakeWrite) = (ends[0], ends[1])
        self.answer = answer
        self.counted = counted
        var made = pthread_t()
        let code = pthread_create(
          &made, nil,
          { argument in
            Unmanaged<LineThread>.fromOpaque(argument!).takeRetainedValue().run()
            return nil
          }, Unmanaged.passRetained(self).toOpaque())
        guard code == 0 else {
          Unmanaged.passUnretained(self).release()
          close(listener)
          throw Failure.unavailable("no thread could be started (errno \(code))")
        }
        thread.withLock { $0 = made }
      }

      deinit {
        close(wakeRead)
        close(wakeWrite)
      }

      /// Stops accepting, gives open connections until then (CLOCK_MONOTONIC, nanoseconds), and returns when the thread has
      /// ended. Control thread.
      func end(byNs deadlineNs: UInt64) {
        post { $0.endNs = deadlineNs }
        if let joined = thread.withLock({ thread in thread.take() }) { pthread_join(joined, nil) }
      }

      private func post(_ change: (inout Mail) -> Void) {
        let wakes = mail.withLock { mail in
          change(&mail)
          defer { mail.isWoken = true }
          return !mail.isWoken
        }
        if wakes { _ = write(wakeWrite, [1], 1) }
      }

      private func run() {
        var connections: [Int: Connection] = [:]
        var number = 0
        var endNs: UInt64?
        while true {
          for (key, connection) in connections where connection.isOver {
            close(connection.descriptor)
            connections[key] = nil
          }
          counted(connections.count)
          let now = Self.now()
          if let endNs, connections.isEmpty || now >= endNs { break }
          let keys = Array(connections.keys)
          var polled = [pollfd(fd: wakeRead, events: Int16(POLLIN), revents: 0)]
          let accepts = endNs == nil && connections.count < Self.connectionsMax
          polled.append(pollfd(fd: accepts ? listener : -1, events: Int16(POLLIN), revents: 0))
          polled += keys.map { Self.interest(connections[$0]!) }
          let timeoutMs = endNs.map { Int32(min(($0 - now) / 1_000_000 + 1, 60_000)) } ?? -1
          guard poll(&polled, nfds_t(polled.count), timeoutMs) >= 0 || errno == EINTR else { break }
          if polled[0].revents != 0 { takeMail(&connections, &endNs) }
          if polled[1].revents != 0, let descriptor = acceptOne() {
            number += 1
            connections[number] = Connection(descriptor: descriptor)
          }
          for (index, key) in keys.enumerated() where polled[index + 2].revents != 0 {
            move(&connections[key]!)
            // Also after sending: a line may have come together with the one before it.
            if let line = takeLine(&connections[key]!) { ask(line, for: key) }
          }
        }
        connections.values.forEach { close($0.descriptor) }
        counted(0)
        close(listener)
      }

      private static func interest(_ connection: Connection) -> pollfd {
        let events = !connection.sending.isEmpty ? POLLOUT : connection.isAnswering || connection.isAtEnd ? 0 : POLLIN
        return pollfd(fd: events == 0 ? -1 : connection.descriptor, events: Int16(events), revents: 0)
      }

      private func acceptOne() -> Int32? {
        let descriptor = accept(listener, nil, nil)
        guard descriptor >= 0 else { return nil }
        Self.prepare(descriptor)
        return descriptor
      }

      /// Non-blocking and close-on-exec.
      private static func prepare(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      }

      /// Sends what there is to send, or receives what has come.
      private func move(_ connection: inout Connection) {
        let count: Int
        if !connection.sending.isEmpty {
          count = send(connection.descriptor, connection.sending, connection.sending.count, Int32(MSG_NOSIGNAL))
          if count > 0 { connection.sending.removeFirst(count) }
        } else {
          var buffer = [UInt8](repeating: 0, count: 4096)
          count = recv(connection.descriptor, &buffer, buffer.count, 0)
          if count > 0 { connection.received += buffer.prefix(count) }
        }
        guard count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) else { return }
        connection.isAtEnd = true
        connection.sending = []
      }

      private func takeLine(_ connection: inout Connection) -> String? {
        guard !connection.isAnswering, connection.sending.isEmpty else { return nil }
        guard let end = connection.received.firstIndex(of: 0x0A) else {
          guard connection.received.count > Self.lineBytesMax else { return nil }
          connection.received = []
          connection.isAtEnd = true
          connection.sending = Array("ERROR a line has at most \(Self.lineBytesMax) bytes\n".utf8)
          return nil
        }
        var line = String(decoding: connection.received[..<end], as: UTF8.self)
        if line.hasSuffix("\r") { line.removeLast() }
        connection.received.removeFirst(end + 1)
        connection.isAnswering = true
        return line
      }

      private func ask(_ line: String, for key: Int) {
        Task { [self] in
          let text = await answer(line)
          post { $0.answers.append((key, text)) }
        }
      }

      private func takeMail(_ connections: inout [Int: Connection], _ endNs: inout UInt64?) {
        var byte: UInt8 = 0
        _ = read(wakeRead, &byte, 1)
        let taken = mail.withLock { mail in
          defer { mail = Mail(endNs: mail.endNs) }
          return mail
        }
        endNs = taken.endNs
        for (key, line) in taken.answers {
          connections[key]?.isAnswering = false
          connections[key]?.sending = Array((line + "\n").utf8)
          // While it ends, a connection's next answer is its last. One that asks nothing is closed when the time is up: a
          // client may have a line on its way.
          if endNs != nil { connections[key]?.isAtEnd = true }
        }
      }

      private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
      }
    }

    """##

  /// Its tests.
  static let tests =
    ##"""
    import Glibc
    import PluginTestHost
    import Testing

    @testable import {{Module}}

    @Suite struct {{Module}}Tests {
      @Test func aLineIsAnsweredThroughTheNode() async throws {
        let host = try TestHost(entry: plugin.pointer)
        try await host.start()
        let port = try #require(host.port(of: "lines"))
        let answers = try talk(port, "PUT mutable://open/a 1\nGET mutable://open/a\nGET mutable://open/b\nHELLO\n")
        #expect(answers == "OK\nOK 1\nNONE\nERROR say GET URI or PUT URI DATA\n")
        try await host.quiesce()
        try await host.stop()
        #expect(host.violations.isEmpty)
      }

      @Test func anIdleConnectionIsClosedWhenTheTimeIsUp() async throws {
        let host = try TestHost(entry: plugin.pointer)
        try await host.start()
        let descriptor = try open(try #require(host.port(of: "lines")))
        try await host.quiesce(within: .milliseconds(100))
        var byte: UInt8 = 0
        #expect(recv(descriptor, &byte, 1, 0) == 0)
        close(descriptor)
      }

      /// Sends lines, closes its side, and reads to the end.
      private func talk(_ port: UInt16, _ lines: String) throws -> String {
        let descriptor = try open(port)
        defer { close(descriptor) }
        #expect(send(descriptor, lines, lines.utf8.count, 0) == lines.utf8.count)
        shutdown(descriptor, Int32(SHUT_WR))
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1024)
        while case let count = recv(descriptor, &buffer, buffer.count, 0), count > 0 { received += buffer.prefix(count) }
        return String(decoding: received, as: UTF8.self)
      }

      private func open(_ port: UInt16) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        // So that a defect fails the test instead of hanging it.
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
          }
        }
        try #require(code == 0)
        return descriptor
      }
    }

    """##
}
