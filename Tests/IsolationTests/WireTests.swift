import BackplaneABI
import Glibc
import SystemShims
import Testing

@testable import IsolationWire

@Suite struct WireRoundTrips {
  private func frame(_ caught: (kind: FrameKind?, id: UInt64, payload: [UInt8]), _ held: UnsafeRawBufferPointer)
    -> Frame
  {
    Frame(kind: caught.kind, id: caught.id, payload: held, owned: nil, block: nil)
  }

  @Test func aUnitArrivesAsItWasSent() throws {
    let sent = withViews(["mutable://open/a", "{\"a\":1}", "mutable://open/b", "10.0.0.1:99"]) { views in
      caught { connection in
        var call = bp_call()
        call.deadline_ns = 77
        call.trace_id_high = 1
        call.trace_id_low = 2
        call.span_id = 3
        call.idempotency_key_high = 4
        call.idempotency_key_low = 5
        call.generation = 9
        call.peer = views[3]
        var put = bp_op()
        put.size = UInt32(MemoryLayout<bp_op>.size)
        put.condition = BP_IF_VERSION
        put.if_version = 41
        put.uri = views[0]
        put.data = views[1]
        var delete = bp_op()
        delete.size = put.size
        delete.verb = BP_VERB_DELETE
        delete.uri = views[2]
        let ops = [put, delete]
        ops.withUnsafeBufferPointer { ops in
          withUnsafePointer(to: &call) { call in
            var unit = bp_unit(
              size: UInt32(MemoryLayout<bp_unit>.size), ops_count: 2, ops: ops.baseAddress, token: 123, call: call,
              ts_ms: 5, version: 6)
            #expect(connection.sendApply(&unit) == .sent)
          }
        }
      }
    }
    #expect(sent.count == 1 && sent[0].kind == .apply && sent[0].id == 123)
    let guarded = GuardedPayload(sizeMax: 4096)
    var arrived = frame(sent[0], guarded.hold(sent[0].payload))
    let (received, unit) = try #require(ReceivedCall.unit(&arrived, staysInFrame: false))
    defer { free(received.memory) }
    #expect(unit.pointee.ops_count == 2 && unit.pointee.ts_ms == 5 && unit.pointee.version == 6)
    #expect(unit.pointee.token == 123 && unit.pointee.call.pointee.deadline_ns == 77)
    #expect(unit.pointee.call.pointee.generation == 9 && unit.pointee.call.pointee.idempotency_key_low == 5)
    #expect(text(unit.pointee.call.pointee.peer) == "10.0.0.1:99")
    #expect(unit.pointee.ops[0].condition == BP_IF_VERSION && unit.pointee.ops[0].if_version == 41)
    #expect(text(unit.pointee.ops[0].uri) == "mutable://open/a" && text(unit.pointee.ops[0].data) == "{\"a\":1}")
    #expect(unit.pointee.ops[1].verb == BP_VERB_DELETE && text(unit.pointee.ops[1].uri) == "mutable://open/b")
  }

  @Test func aVerdictPointsIntoItsMessage() {
    withViews(["mutable://open/a", "the whole body", "of its own"]) { views in
      var message = bp_message()
      message.uri = views[0]
      message.uri_received = views[0]
      message.data = views[1]
      let there = MessageViews(&message)
      let sent = caught { connection in
        var op = bp_op()
        op.size = UInt32(MemoryLayout<bp_op>.size)
        op.uri = views[0]
        op.data = bp_view(data: views[1].data + 4, size: 5)
        var other = op
        other.data = views[2]
        [op, other].withUnsafeBufferPointer { ops in
          var verdict = bp_verdict()
          verdict.result.size = UInt32(MemoryLayout<bp_verdict>.size)
          verdict.ops = ops.baseAddress
          verdict.ops_count = 2
          withUnsafePointer(to: &verdict) {
            let result = UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self)
            #expect(connection.sendCompleted(7, .verdict, result, message: there) == .sent)
          }
        }
      }
      // The kernel's message lies elsewhere than the plugin's.
      withViews(["mutable://open/a", "THE WHOLE BODY"]) { mine in
        var message = bp_message()
        message.uri = mine[0]
        message.uri_received = mine[0]
        message.data = mine[1]
        let here = MessageViews(&message)
        sent[0].payload.withUnsafeBytes { payload in
          var wasCalled = false
          let isSound = ReceivedResult.with(payload, expected: .verdict, message: here) { result in
            wasCalled = true
            let verdict = UnsafeRawPointer(result).assumingMemoryBound(to: bp_verdict.self).pointee
            #expect(verdict.ops_count == 2)
            #expect(verdict.ops[0].data.data == mine[1].data + 4 && text(verdict.ops[0].data) == "WHOLE")
            #expect(verdict.ops[0].uri.data == mine[0].data)
            #expect(text(verdict.ops[1].data) == "of its own")
          }
          #expect(isSound && wasCalled)
          // Of a call that is not known any more it says nothing.
          let isTaken = ReceivedResult.with(payload, expected: .verdict, message: nil) { _ in Issue.record("called") }
          #expect(!isTaken)
        }
      }
    }
  }

  /// A message that is shorter than what a verdict refers to.
  @Test func aVerdictPointsNowhereElse() {
    withViews(["mutable://open/a", "0123456789"]) { views in
      var message = bp_message()
      message.uri = views[0]
      message.data = views[1]
      let there = MessageViews(&message)
      let sent = caught { connection in
        var op = bp_op()
        op.size = UInt32(MemoryLayout<bp_op>.size)
        op.uri = views[0]
        op.data = views[1]
        withUnsafePointer(to: &op) { op in
          var verdict = bp_verdict()
          verdict.result.size = UInt32(MemoryLayout<bp_verdict>.size)
          verdict.ops = op
          verdict.ops_count = 1
          withUnsafePointer(to: &verdict) {
            let result = UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self)
            _ = connection.sendCompleted(7, .verdict, result, message: there)
          }
        }
      }
      message.data = bp_view(data: views[1].data, size: 9)
      let shorter = MessageViews(&message)
      sent[0].payload.withUnsafeBytes { payload in
        let isTaken = ReceivedResult.with(payload, expected: .verdict, message: shorter) { _ in Issue.record("called") }
        #expect(!isTaken)
      }
    }
  }

  @Test func aResultOfAnotherShapeIsRefusedAndABareSuccessIsNone() {
    var read = bp_read_result()
    read.result.size = UInt32(MemoryLayout<bp_read_result>.size)
    func payload(_ shape: ResultShape, size: Int) -> [UInt8] {
      read.result.size = UInt32(size)
      return caught { connection in
        withUnsafePointer(to: &read) {
          _ = connection.sendCompleted(1, shape, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
        }
      }[0].payload
    }
    let whole = payload(.read, size: MemoryLayout<bp_read_result>.size)
    whole.withUnsafeBytes { whole in
      let isTaken = ReceivedResult.with(whole, expected: .read, message: nil) { #expect($0.pointee.code == BP_OK) }
      #expect(isTaken)
      for other: ResultShape in [.plain, .write, .scan, .verdict, .list, .query] {
        let isTaken = ReceivedResult.with(whole, expected: other, message: nil) { _ in Issue.record("called") }
        #expect(!isTaken)
      }
    }
    let bare = payload(.read, size: MemoryLayout<bp_result>.size)
    bare.withUnsafeBytes { bare in
      let isTaken = ReceivedResult.with(bare, expected: .scan, message: nil) {
        #expect($0.pointee.code == BP_INTERNAL)
        #expect(Int($0.pointee.size) == MemoryLayout<bp_scan_result>.size)
      }
      #expect(isTaken)
    }
  }
}

/// Whatever a mad child sends: it is refused or read within its bounds.
@Suite struct WireFuzz {
  private func seeds() -> [[UInt8]] {
    withViews(["mutable://open/record", "{\"some\":\"data\"}", "10.1.1.1:5000"]) { views in
      caught { connection in
        var call = bp_call()
        call.peer = views[2]
        withUnsafePointer(to: &call) { pointer in
          var op = bp_op()
          op.size = UInt32(MemoryLayout<bp_op>.size)
          op.uri = views[0]
          op.data = views[1]
          let ops = [op, op]
          ops.withUnsafeBufferPointer { ops in
            var unit = bp_unit(
              size: UInt32(MemoryLayout<bp_unit>.size), ops_count: 2, ops: ops.baseAddress, token: 1, call: pointer,
              ts_ms: 1, version: 1)
            _ = connection.sendApply(&unit)
            var verdict = bp_verdict()
            verdict.result.size = UInt32(MemoryLayout<bp_verdict>.size)
            verdict.ops = ops.baseAddress
            verdict.ops_count = 2
            withUnsafePointer(to: &verdict) {
              _ = connection.sendCompleted(1, .verdict, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
            }
          }
          var read = bp_read(
            size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: 1, call: pointer, uri: views[0])
          _ = connection.sendRead(&read)
          var scan = bp_scan()
          scan.call = pointer
          scan.prefix = views[0]
          _ = connection.sendScan(&scan)
          var query = bp_query()
          query.call = pointer
          query.prefix = views[0]
          _ = connection.sendQuery(&query)
          var item = bp_scan_item()
          item.uri = views[0]
          withUnsafePointer(to: &item) { item in
            var page = bp_query_result()
            page.result.size = UInt32(MemoryLayout<bp_query_result>.size)
            page.items = item
            page.items_count = 1
            page.item_size = UInt32(MemoryLayout<bp_scan_item>.stride)
            withUnsafePointer(to: &page) {
              _ = connection.sendCompleted(1, .query, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
            }
          }
          var message = bp_message()
          message.uri = views[0]
          message.uri_received = views[0]
          message.program = bp_view(data: views[0].data, size: 14)
          message.data = views[1]
          _ = connection.sendJudge(pointer, &message, 1)
        }
        var list = bp_list()
        list.uri = views[0]
        _ = connection.sendNodeList(1, call, &list)
        _ = connection.sendNodeRead(1, call, views[0])
        _ = connection.sendNodeReadMulti(1, call, views, 3)
        var receive = bp_receive()
        receive.uri = views[0]
        receive.data = bp_buffer(data: views[1].data, size: views[1].size, owner: nil, release: nil)
        _ = connection.sendNodeReceive(1, call, &receive)
        var field = bp_field(key: views[0], value: views[1])
        connection.sendLog(1, views[0], &field, 1)
        var facts = PluginFacts()
        facts.schema = PluginFacts.Schema()
        facts.schema?.programs = [PluginFacts.Program(key: [1, 2, 3], flags: 1)]
        connection.sendAnswer(
          1,
          LifeCycleAnswer(
            code: 0, diagnostics: [LifeCycleAnswer.Diagnostic(severity: 0, pointer: "/a", message: "b")], facts: facts))
        for shape: ResultShape in [.plain, .write, .read, .scan, .list] {
          withUnsafeTemporaryAllocation(byteCount: 128, alignment: 16) { raw in
            raw.initializeMemory(as: UInt8.self, repeating: 0)
            let result = raw.baseAddress!.assumingMemoryBound(to: bp_result.self)
            result.pointee.size = 128
            result.pointee.message = views[1]
            _ = connection.sendCompleted(1, shape, result)
          }
        }
      }.map(\.payload)
    }
  }

  private func readAll(_ payload: UnsafeRawBufferPointer) {
    func look(_ view: bp_view) {
      // Every byte that is promised is there.
      _ = UnsafeBufferPointer(start: view.data, count: Int(view.size)).reduce(UInt8(0), ^)
    }
    func frame() -> Frame { Frame(kind: .read, id: 1, payload: payload, owned: nil, block: nil) }
    for stays in [true, false] {
      var (a, b, c, d, e, f) = (frame(), frame(), frame(), frame(), frame(), frame())
      if let (received, call) = ReceivedCall.notice(&f) {
        look(call.pointee.peer)
        free(received.memory)
      }
      if let (received, unit) = ReceivedCall.unit(&a, staysInFrame: stays) {
        for index in 0..<Int(unit.pointee.ops_count) {
          look(unit.pointee.ops[index].uri)
          look(unit.pointee.ops[index].data)
        }
        free(received.memory)
      }
      if let (received, read) = ReceivedCall.read(&b, staysInFrame: stays) {
        look(read.pointee.uri)
        free(received.memory)
      }
      if let (received, scan) = ReceivedCall.scan(&c, staysInFrame: stays) {
        look(scan.pointee.cursor)
        free(received.memory)
      }
      if let (received, query) = ReceivedCall.query(&e, staysInFrame: stays) {
        look(query.pointee.prefix)
        free(received.memory)
      }
      if let (received, _, message) = ReceivedCall.judgement(&d, staysInFrame: stays) {
        look(message.pointee.program)
        look(message.pointee.data)
        free(received.memory)
      }
    }
    for shape: ResultShape in [.plain, .write, .read, .scan, .verdict, .list, .query, .proposal] {
      _ = ReceivedResult.with(payload, expected: shape, message: MessageViews()) { result in
        look(result.pointee.message)
        if shape == .scan {
          let scan = UnsafeRawPointer(result).assumingMemoryBound(to: bp_scan_result.self).pointee
          for index in 0..<Int(scan.items_count) { look(scan.items[index].uri) }
        }
        if shape == .query {
          let page = UnsafeRawPointer(result).assumingMemoryBound(to: bp_query_result.self).pointee
          for index in 0..<Int(page.items_count) { look(page.items[index].uri) }
        }
        if shape == .list {
          let list = UnsafeRawPointer(result).assumingMemoryBound(to: bp_list_result.self).pointee
          for index in 0..<Int(list.uris_count) { look(list.uris[index]) }
        }
      }
    }
    if let receive = ReceivedNodeCall.receive(payload) { look(receive.data) }
    if let (_, uris) = ReceivedNodeCall.readMulti(payload) { uris.forEach(look) }
    if let (_, list) = ReceivedNodeCall.list(payload) { look(list.pattern) }
    if let (_, uri) = ReceivedNodeCall.uri(payload) { look(uri) }
    if let proposal = ReceivedNodeCall.proposal(payload) { look(proposal.json) }
    _ = ReceivedNodeCall.item(payload) { look($0.pointee.read.pointee.record.data) }
    _ = ReceivedNodeCall.chunk(payload) { look($0.pointee.bytes) }
    _ = ReceivedReport.log(payload) { _, message, _, _ in look(message) }
    _ = ReceivedConfiguration.with(payload) { look($0.pointee.json) }
    _ = LifeCycleAnswer(payload)
    _ = Greeting(payload)
    let question = AskingSocket.Question(kind: .askMetric, id: 1, payload: Array(payload), descriptor: -1)
    _ = question.metric { metric in
      look(metric.pointee.name)
      return (BP_OK, 0)
    }
  }

  @Test func mutatedPayloadsAreReadWithinTheirBounds() {
    var random = Seeded(state: 7)
    let seeds = seeds()
    #expect(seeds.count == 18)
    let guarded = GuardedPayload(sizeMax: 8192)
    for seed in seeds { readAll(guarded.hold(seed)) }
    for _ in 0..<20_000 {
      var bytes = seeds.randomElement(using: &random)!
      for _ in 0..<Int.random(in: 1...6, using: &random) where !bytes.isEmpty {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[bytes.indices.randomElement(using: &random)!] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
        case 2:
          // A length that is far too large, or one more.
          let place = Int.random(in: 0..<bytes.count, using: &random) & ~3
          let word = [UInt32.max, 0x7fff_ffff, UInt32(bytes.count), 1 << 20].randomElement(using: &random)!
          for index in 0..<4 where place + index < bytes.count {
            bytes[place + index] = UInt8(truncatingIfNeeded: word >> UInt32(8 * index))
          }
        default: bytes += (0..<8).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
      }
      readAll(guarded.hold(bytes))
    }
  }

  /// Streams of nonsense, with frames that name shared memory: an end with a reason, whatever comes.
  @Test func nonsenseEndsTheStream() throws {
    var random = Seeded(state: 11)
    for round in 0..<300 {
      var pair: [Int32] = [-1, -1]
      #expect(bp_shim_socket_pair(&pair) == 0)
      let memory = try #require(SharedMemory.make(sizeBytes: 1 << 18))
      let receiver = Connection(pair[0], memory: memory, patience: .handsOver, waitingBytesMax: 1 << 20)
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 1...20, using: &random) {
        let size = round % 2 == 0 ? 12 : Int.random(in: 0...64, using: &random)
        var header: [UInt8] = []
        func add<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value) { header += Array($0) } }
        add(Bool.random(using: &random) ? UInt32(size) : UInt32.random(in: 0...UInt32.max, using: &random))
        add(UInt16.random(in: 0...130, using: &random))
        add(UInt16.random(in: 0...1, using: &random))
        add(UInt64.random(in: 0...UInt64.max, using: &random))
        bytes += header + (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) & 0x1f }
      }
      let sent = bytes.withUnsafeBytes { write(pair[1], $0.baseAddress, $0.count) }
      #expect(sent == bytes.count)
      close(pair[1])
      let catcher = Catcher()
      _ = Receiver.run(receiver, .copies, catcher)
      #expect(catcher.frames.count <= 20)
      receiver.shutDown()
      receiver.finish()
    }
  }
}

@Suite struct SharedMemoryTests {
  private func pair(_ sizeBytes: Int) throws -> (SharedMemory, SharedMemory) {
    let mine = try #require(SharedMemory.make(sizeBytes: sizeBytes))
    let theirs = try #require(SharedMemory.adopt(dup(mine.descriptor), sizeBytes: sizeBytes))
    return (mine, theirs)
  }

  @Test func whatIsReleasedIsUsedAgain() throws {
    let (mine, theirs) = try pair(4 * SharedMemory.chunkBytes)
    let first = try #require(mine.allocate(3 * SharedMemory.chunkBytes))
    first.place.storeBytes(of: 42, as: UInt64.self)
    #expect(mine.allocate(2 * SharedMemory.chunkBytes) == nil)
    let seen = try #require(theirs.place(of: first.block))
    #expect(seen.loadUnaligned(as: UInt64.self) == 42)
    theirs.release(first.block)
    let second = try #require(mine.allocate(4 * SharedMemory.chunkBytes))
    // A release that comes twice, or late, frees nobody else's.
    theirs.release(first.block)
    #expect(mine.allocate(1) == nil)
    theirs.release(second.block)
    #expect(mine.allocate(1) != nil)
  }

  @Test func aBlockLiesWithinTheMemoryOrNowhere() throws {
    let (mine, _) = try pair(4 * SharedMemory.chunkBytes)
    func place(_ chunk: UInt32, _ count: UInt32) -> Int? {
      mine.place(of: SharedBlock(chunk: chunk, sequence: 1, count: count))?.count
    }
    #expect(place(0, UInt32(4 * SharedMemory.chunkBytes)) == 4 * SharedMemory.chunkBytes)
    #expect(place(0, UInt32(4 * SharedMemory.chunkBytes) + 1) == nil)
    #expect(place(3, UInt32(SharedMemory.chunkBytes)) != nil)
    #expect(place(3, UInt32(SharedMemory.chunkBytes) + 1) == nil)
    #expect(place(4, 0) == nil)
    #expect(place(.max, .max) == nil)
  }

  @Test func memoryOfAnotherSizeIsNotTaken() throws {
    let memory = try #require(SharedMemory.make(sizeBytes: 1 << 20))
    #expect(SharedMemory.adopt(dup(memory.descriptor), sizeBytes: 2 << 20) == nil)
    // Nor can anybody change it afterwards.
    #expect(ftruncate(memory.descriptor, 0) != 0)
  }
}

@Suite struct ConnectionTests {
  /// The other side does not read: the sender is told, and never waits.
  @Test func whatWaitsIsBounded() throws {
    var pair: [Int32] = [-1, -1]
    #expect(bp_shim_socket_pair(&pair) == 0)
    let sender = Connection(pair[0], memory: nil, patience: .handsOver, waitingBytesMax: 4 << 20)
    let receiver = Connection(pair[1], memory: nil, patience: .waits, waitingBytesMax: .max)
    let text = String(repeating: "z", count: 100_000)
    var sent = 0
    let refused = withViews([text]) { views -> Connection.Outcome in
      var call = bp_call()
      return withUnsafePointer(to: &call) { call in
        while true {
          var read = bp_read(
            size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: UInt64(sent), call: call, uri: views[0])
          let outcome = sender.sendRead(&read)
          guard outcome == .sent, sent < 1000 else { return outcome }
          sent += 1
        }
      }
    }
    #expect(refused == .full)
    // The bound, and what the socket itself holds.
    #expect(sent >= 40 && sent < 80, "\(sent)")
    #expect(sender.isFull)
    // What must not be refused is not.
    #expect(sender.sendCancel(99) == .sent)
    let catcher = UncheckedCatcher()
    let reader = WireThread.start(name: "reader") { _ = Receiver.run(receiver, .copies, catcher.value) }
    while sender.waitingBytes > 0 { usleep(1000) }
    #expect(!sender.isFull)
    sender.shutDown()
    pthread_join(try #require(reader), nil)
    sender.finish()
    #expect(catcher.value.frames.map(\.id) == (0..<UInt64(sent)).map { $0 } + [99])
    #expect(sender.sendCancel(1) == .closed)
  }

  @Test func largePayloadsGoBySharedMemoryAndSmallOnesByTheSocket() throws {
    let mine = try #require(SharedMemory.make(sizeBytes: 1 << 20))
    let theirs = try #require(SharedMemory.adopt(dup(mine.descriptor), sizeBytes: 1 << 20))
    let sizes = [10, 16_000, 20_000, 300_000, 2 << 20]
    let frames = caught(memory: (mine, theirs)) { connection in
      for size in sizes {
        withViews([String(repeating: "s", count: size)]) { views in
          _ = connection.sendNodeRead(UInt64(size), bp_call(), views[0])
        }
        #expect(mine.outstandingCount <= 2)
      }
    }
    #expect(frames.map(\.id) == sizes.map { UInt64($0) })
    for frame in frames {
      frame.payload.withUnsafeBytes { payload in
        #expect(ReceivedNodeCall.uri(payload)?.uri.size == frame.id)
      }
    }
  }
}

@Suite struct FeedWireTests {
  @Test func aSubscriptionArrivesAsItWasSent() throws {
    let sent = withViews(["mutable://open/a", "10.0.0.1:99"]) { views in
      caught { connection in
        var call = bp_call()
        call.trace_id_low = 3
        call.peer = views[1]
        var request = bp_subscribe(
          size: UInt32(MemoryLayout<bp_subscribe>.size), flags: BP_SUBSCRIBE_WITHOUT_DATA, prefix: views[0],
          epoch: .max, position: 1 << 40, credits: 7, reserved: 0)
        #expect(connection.sendSubscribe(9, call, &request) == .sent)
        #expect(connection.sendGrantNode(9, credits: .max) == .sent)
      }
    }
    #expect(sent.map(\.kind) == [.nodeSubscribe, .grantNode] && sent.map(\.id) == [9, 9])
    let guarded = GuardedPayload(sizeMax: 4096)
    let (call, request) = try #require(ReceivedNodeCall.subscribe(guarded.hold(sent[0].payload)))
    #expect(call.trace_id_low == 3 && text(call.peer) == "10.0.0.1:99")
    #expect(request.flags == BP_SUBSCRIBE_WITHOUT_DATA && request.credits == 7)
    #expect(request.epoch == .max && request.position == 1 << 40 && text(request.prefix) == "mutable://open/a")
    #expect(ReceivedNodeCall.number(guarded.hold(sent[1].payload)) == UInt64(UInt32.max))
    for count in 0..<sent[0].payload.count {
      #expect(ReceivedNodeCall.subscribe(guarded.hold(Array(sent[0].payload.prefix(count)))) == nil)
    }
  }

  @Test func anItemArrivesAsItWasSent() {
    let sent = withViews(["mutable://open/a", "data"]) { views in
      caught { connection in
        var item = bp_feed_item()
        item.flags = BP_FEED_GAP
        item.verb = BP_VERB_DELETE
        item.content = BP_CONTENT_BYTES
        item.epoch = 1
        item.position = 2
        item.ts_ms = 3
        item.version = 4
        item.uri = views[0]
        item.data = views[1]
        #expect(connection.sendFeedItem(5, &item) == .sent)
      }
    }
    #expect(sent.map(\.kind) == [.feedItem] && sent[0].id == 5)
    let guarded = GuardedPayload(sizeMax: 4096)
    var wasCalled = false
    let isSound = ReceivedNodeCall.feedItem(guarded.hold(sent[0].payload)) { item in
      wasCalled = true
      let item = item.pointee
      #expect(item.chunk.count == 1 && Int(item.chunk.size) == MemoryLayout<bp_feed_item>.size)
      #expect(item.flags == BP_FEED_GAP && item.verb == BP_VERB_DELETE && item.content == BP_CONTENT_BYTES)
      #expect(item.epoch == 1 && item.position == 2 && item.ts_ms == 3 && item.version == 4)
      #expect(text(item.uri) == "mutable://open/a" && text(item.data) == "data")
    }
    #expect(isSound && wasCalled)
    for count in 0..<sent[0].payload.count {
      let isTaken = ReceivedNodeCall.feedItem(guarded.hold(Array(sent[0].payload.prefix(count)))) { _ in
        Issue.record("called")
      }
      #expect(!isTaken)
    }
  }
}

@Suite struct ServiceWireTests {
  @Test func aProposalAndWhatItCameToArriveAsTheyWereSent() throws {
    let sent = withViews(["{\"node\":{}}", "refused", "{\"id\":3}"]) { views in
      caught { connection in
        #expect(connection.sendNodePropose(4, flags: BP_PROPOSAL_RETRIES, json: views[0]) == .sent)
        #expect(connection.sendNodeTimer(5, dueNs: .max - 1) == .sent)
        var result = bp_proposal_result()
        result.result = bp_result(
          size: UInt32(MemoryLayout<bp_proposal_result>.size), code: BP_REJECTED, flags: BP_RETRYABLE,
          retry_after_ms: 0, message: views[1], detail: views[2])
        result.receipt = 3
        result.generation = 1 << 40
        withUnsafePointer(to: &result) {
          let result = UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self)
          #expect(connection.sendNodeCompleted(4, .proposal, result) == .sent)
        }
      }
    }
    #expect(sent.map(\.kind) == [.nodePropose, .nodeTimer, .nodeCompleted] && sent.map(\.id) == [4, 5, 4])
    let guarded = GuardedPayload(sizeMax: 4096)
    let proposal = try #require(ReceivedNodeCall.proposal(guarded.hold(sent[0].payload)))
    #expect(proposal.flags == BP_PROPOSAL_RETRIES && text(proposal.json) == "{\"node\":{}}")
    #expect(ReceivedNodeCall.number(guarded.hold(sent[1].payload)) == UInt64.max - 1)
    var wasCalled = false
    let isSound = ReceivedResult.with(guarded.hold(sent[2].payload), expected: .proposal, message: nil) { raw in
      wasCalled = true
      let result = UnsafeRawPointer(raw).assumingMemoryBound(to: bp_proposal_result.self).pointee
      #expect(result.result.code == BP_REJECTED && result.result.flags == BP_RETRYABLE)
      #expect(text(result.result.message) == "refused" && text(result.result.detail) == "{\"id\":3}")
      #expect(result.receipt == 3 && result.generation == 1 << 40)
    }
    #expect(isSound && wasCalled)
    for count in 0..<sent[0].payload.count {
      #expect(ReceivedNodeCall.proposal(guarded.hold(Array(sent[0].payload.prefix(count)))) == nil)
    }
  }
}
