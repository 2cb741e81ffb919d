import Glibc
import Synchronization

/// A server that speaks MongoDB's wire protocol, as much of it as libmongoc uses for the backend, on a port of the loopback
/// interface. It keeps documents in memory, also while it is stopped, does wrong what it is told to, and refuses what it
/// does not know: it stands in for a mongod in tests, where one that nods at everything would prove nothing.
///
/// Functions may be called from any thread.
public final class MongoWireServer: Sendable {
  public let port: UInt16
  /// "127.0.0.1:port"
  public let address: String
  private let state: Mutex<State>

  private struct State {
    var engine: Engine
    var credentials: Credentials?
    var faults: [Fault] = []
    var listener: Int32 = -1
    var acceptor: pthread_t?
    var connections: [Int32: pthread_t] = [:]
    /// Ended connections whose threads are to be joined.
    var ended: [pthread_t] = []
    var counts: [String: Int] = [:]
    var openedCount = 0
    var malformed: [String] = []
  }

  /// Serves when it returns. With `user`, every connection has to prove that it knows the password (SCRAM-SHA-256).
  public init(_ persona: Persona = .replicaSet(name: "rs0"), user: String? = nil, password: String = "") {
    let (listener, port) = Self.listen(port: 0)!
    self.port = port
    address = "127.0.0.1:\(port)"
    var state = State(engine: Engine(persona: persona, address: "127.0.0.1:\(port)"))
    state.credentials = user.map { Credentials(user: $0, password: password) }
    self.state = Mutex(state)
    serve(listener)
  }

  deinit { stop() }

  /// `mongodb://127.0.0.1:port/database?...`
  public func url(_ database: String = "test", options: String = "") -> String {
    "mongodb://\(address)/\(database)\(options.isEmpty ? "" : "?\(options)")"
  }

  // MARK: Stopping and starting

  private static func listen(port: UInt16) -> (Int32, UInt16)? {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    precondition(descriptor >= 0, "no socket could be made")
    var yes: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = port.bigEndian
    name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &name) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        bind(descriptor, raw, size) == 0 && Glibc.listen(descriptor, 128) == 0
          && getsockname(descriptor, raw, &size) == 0
      }
    }
    if isBound { return (descriptor, UInt16(bigEndian: name.sin_port)) }
    close(descriptor)
    return nil
  }

  private func serve(_ listener: Int32) {
    // The server lives as long as its threads, unless it is stopped: `stop` joins them.
    let thread = Self.thread { [unowned self] in accept(on: listener) }
    state.withLock { state in
      state.listener = listener
      state.acceptor = thread
    }
  }

  /// As if the process had ended: every connection breaks and nobody listens. Records stay.
  public func stop() {
    let (listener, acceptor) = state.withLock { state in
      defer {
        state.listener = -1
        state.acceptor = nil
      }
      return (state.listener, state.acceptor)
    }
    guard let acceptor else { return }
    shutdown(listener, Int32(SHUT_RDWR))
    pthread_join(acceptor, nil)
    close(listener)
    dropConnections()
    while true {
      let thread = state.withLock { $0.connections.first?.value ?? $0.ended.first }
      guard let thread else { return }
      pthread_join(thread, nil)
      state.withLock { state in
        state.ended.removeAll { $0 == thread }
        if let open = state.connections.first(where: { $0.value == thread })?.key { state.connections[open] = nil }
      }
    }
  }

  /// Serves again, on the same port, what it has kept.
  public func start() {
    while true {
      if let (listener, _) = Self.listen(port: port) { return serve(listener) }
      // The port is taken by a connection that happened to get it for its own end.
      usleep(1_000)
    }
  }

  /// Breaks every connection; new ones are served.
  public func dropConnections() {
    state.withLock { state in for descriptor in state.connections.keys { shutdown(descriptor, Int32(SHUT_RDWR)) } }
  }

  // MARK: Telling and asking

  /// Does this wrong from now on.
  public func inject(_ fault: Fault) { state.withLock { $0.faults.append(fault) } }
  public func clearFaults() { state.withLock { $0.faults = [] } }

  /// How often a command came.
  public func count(_ command: String) -> Int { state.withLock { $0.counts[command] ?? 0 } }
  public func resetCounts() { state.withLock { $0.counts = [:] } }
  /// Connections that are open, and that ever were.
  public var connections: (open: Int, ever: Int) { state.withLock { ($0.connections.count, $0.openedCount) } }
  /// What came that was no message of the protocol; empty with a sound driver.
  public var malformed: [String] { state.withLock { $0.malformed } }

  /// Puts a document there, as another program would have. Throws when the unique index does not allow it.
  public func insert(_ document: Document, into collection: String = "test.b3nd_data") throws {
    try state.withLock { state throws(ServerError) in try state.engine.insert(document, into: collection) }
  }

  /// Changes fields of the document with this URI, as another program would.
  public func set(_ fields: Document, uri: String, in collection: String = "test.b3nd_data") throws {
    try state.withLock { state throws(ServerError) in try state.engine.set(fields, uri: uri, in: collection) }
  }

  /// A collection that compares texts in another way, which its index on `_id` tells.
  public func createCollection(_ name: String, locale: String) {
    state.withLock { $0.engine.createCollection(name, locale: locale) }
  }

  public func createIndex(_ index: Document, on collection: String = "test.b3nd_data") throws {
    try state.withLock { state throws(ServerError) in try state.engine.createIndex(index, on: collection) }
  }

  /// The documents of a collection, in the order in which they came.
  public func documents(_ collection: String = "test.b3nd_data") -> [Document] {
    state.withLock { state in
      state.engine.collections[collection]?.stored.sorted { $0.key < $1.key }.map(\.value.document) ?? []
    }
  }

  public func document(_ uri: String, in collection: String = "test.b3nd_data") -> Document? {
    documents(collection).first { $0["uri"] == .text(Text(uri)) }
  }

  public func indexes(_ collection: String = "test.b3nd_data") -> [Document] {
    state.withLock { $0.engine.collections[collection]?.indexes ?? [] }
  }

  // MARK: Threads

  private final class Work {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
  }

  private static func thread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(Work(body)).toOpaque()
    let error = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<Work>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, context)
    precondition(error == 0, "a thread could not be made")
    return thread
  }

  private func accept(on listener: Int32) {
    while true {
      let descriptor = Glibc.accept(listener, nil, nil)
      if descriptor < 0 {
        if errno == EINTR || errno == ECONNABORTED { continue }
        return
      }
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      var yes: Int32 = 1
      setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
      let ended = state.withLock { state in
        defer { state.ended = [] }
        state.openedCount += 1
        // Under the lock, so that the connection is known before its thread can end.
        state.connections[descriptor] = Self.thread { [unowned self] in converse(on: descriptor) }
        return state.ended
      }
      for thread in ended { pthread_join(thread, nil) }
    }
  }

  private func converse(on descriptor: Int32) {
    var connection = Conversation(descriptor: descriptor)
    while let bytes = connection.receive() {
      do throws(Message.Malformed) {
        guard answer(try Message(bytes), &connection) else { break }
      } catch {
        state.withLock { $0.malformed.append(error.text) }
        break
      }
    }
    state.withLock { state in
      if let thread = state.connections.removeValue(forKey: descriptor) { state.ended.append(thread) }
      close(descriptor)
    }
  }

  /// False: the connection is to be closed.
  private func answer(_ message: Message, _ connection: inout Conversation) -> Bool {
    guard let name = message.command.fields.first.map({ "\($0.name)" }) else { return false }
    let fault = state.withLock { state -> Fault? in
      state.counts[name, default: 0] += 1
      guard let index = state.faults.firstIndex(where: { $0.command == name }) else { return nil }
      let fault = state.faults[index]
      if fault.times <= 1 { state.faults.remove(at: index) } else { state.faults[index].times -= 1 }
      return fault
    }
    if case .dropBefore = fault?.kind { return false }
    if case .delay(let milliseconds) = fault?.kind { usleep(UInt32(milliseconds) * 1_000) }
    let reply = self.reply(name, message, &connection, fault)
    if case .dropAfter = fault?.kind { return false }
    let bytes = message.reply(reply, id: connection.nextID())
    if case .dropMidReply = fault?.kind {
      _ = connection.send(Array(bytes.prefix(bytes.count / 2)))
      return false
    }
    return connection.send(bytes)
  }

  private func reply(
    _ name: String, _ message: Message, _ connection: inout Conversation, _ fault: Fault?
  ) -> Document {
    state.withLock { state in
      do throws(ServerError) {
        if case .error(let code, let name, let text) = fault?.kind {
          throw ServerError(code, name, text, labels: ServerError.labels(code, message.command))
        }
        if case .writeErrors(let code, let text) = fault?.kind {
          let count = (message.command["updates"] ?? message.command["deletes"])?.array?.count ?? 1
          let errors = (0..<count).map { ServerError(code, "", text).writeError($0) }
          return ["n": .int32(0), "nModified": .int32(0), "writeErrors": .array(errors), "ok": .double(1)]
        }
        if let reply = try connection.authenticate(name, message.command, state.credentials) { return reply }
        var reply = try state.engine.run(name, message.command, database: message.database)
        if state.credentials != nil, message.command["saslSupportedMechs"] != nil {
          reply["saslSupportedMechs"] = .array(["SCRAM-SHA-256"])
        }
        if case .writeConcernError(let code, let text) = fault?.kind {
          reply["writeConcernError"] = .document(["code": .int32(code), "errmsg": .text(Text(text))])
        }
        return reply
      } catch {
        return error.reply
      }
    }
  }
}
