#if SIMULATION
import BackplaneABI
import SimulatedSystem

@testable import Kernel

/// What a client asked of the node, until the simulation ends: a second answer would be noticed.
final class Request: @unchecked Sendable {
  // @unchecked: as everything of a simulation, of whose threads one runs at a time.
  enum Kind { case write(Int), read(Ledger.Expectation), list, readMulti }

  let number: Int
  let kind: Kind
  let uri: Int
  let node: SimulatedNode
  let caller: bp_instance
  let epoch: Int
  var token: bp_token = 0
  private(set) var answers = 0
  private(set) var code: bp_code?
  /// The body of a write, which the node gives back once.
  private var body: UnsafeMutableBufferPointer<UInt8>?
  private(set) var releases = 0
  /// The node must have answered by then, however it goes.
  let answeredByNs: UInt64

  init(_ number: Int, _ kind: Kind, uri: Int, _ node: SimulatedNode, caller: bp_instance, answeredByNs: UInt64) {
    self.number = number
    self.kind = kind
    self.uri = uri
    self.node = node
    self.caller = caller
    self.answeredByNs = answeredByNs
    epoch = node.ledger.epoch
  }

  var isAnswered: Bool { answers > 0 }
  var name: String {
    switch kind {
    case .write(let number): "request \(self.number) (write w\(number) to k\(uri))"
    case .read: "request \(number) (read k\(uri))"
    case .list: "request \(number) (list)"
    case .readMulti: "request \(number) (read several)"
    }
  }

  func send(_ header: inout bp_call) {
    Report.trace("\(name) begins by transport #\(caller >> 16)")
    let completion = bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        Unmanaged<Request>.fromOpaque(context!).takeUnretainedValue().answered(result!)
      }, chunk: { _, _ in })
    var text = "mutable://open/k\(uri)"
    let table = NodeTable.pointer.pointee
    token = text.withUTF8 { bytes in
      let uri = bp_view(bytes)
      switch kind {
      case .write(let number):
        var request = bp_receive(
          size: UInt32(MemoryLayout<bp_receive>.size), content: BP_CONTENT_BYTES, uri: uri, data: body("w\(number)"))
        return table.receive(caller, &header, &request, completion)
      case .read: return table.read(caller, &header, uri, completion)
      case .readMulti:
        var uris = [uri, uri, uri]
        return table.read_multi(caller, &header, &uris, 3, completion)
      case .list:
        var folder: StaticString = "mutable://open"
        return withUnsafeMutablePointer(to: &folder) { folder in
          var request = bp_list()
          request.size = UInt32(MemoryLayout<bp_list>.size)
          request.uri = bp_view(data: folder.pointee.utf8Start, size: UInt64(folder.pointee.utf8CodeUnitCount))
          request.page = 1
          request.limit = 10
          return table.list(caller, &header, &request, completion)
        }
      }
    }
    if token == 0, !isAnswered, case .write = kind { Report.trace("\(name) has no token") }
  }

  private func body(_ text: String) -> bp_buffer {
    let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
    _ = bytes.initialize(from: text.utf8)
    body = bytes
    return bp_buffer(
      data: UnsafePointer(bytes.baseAddress), size: UInt64(bytes.count),
      owner: Unmanaged.passRetained(self).toOpaque(),
      release: { owner in Unmanaged<Request>.fromOpaque(owner!).takeUnretainedValue().released() })
  }

  private func released() {
    releases += 1
    Report.require(releases == 1, "the body of \(name) was given back twice")
    // Whoever still reads it finds no write there.
    body!.update(repeating: 0x21)
  }

  var isBodyKept: Bool { body != nil && releases == 0 }

  private func answered(_ result: UnsafePointer<bp_result>) {
    answers += 1
    Report.require(answers == 1, "\(name) was answered twice")
    code = result.pointee.code
    Report.trace("\(name) is answered: \(CodeNames.name(result.pointee.code)) \(result.pointee.message.text)")
    node.answers[CodeNames.name(result.pointee.code), default: 0] += 1
    node.invariants.mayCall(caller, self)
    switch kind {
    case .write(let number):
      if result.pointee.code == BP_OK { node.ledger.acknowledged(number, epoch: epoch) }
    case .read(let expectation):
      let isFound = result.pointee.code == BP_OK
      guard isFound || result.pointee.code == BP_NOT_FOUND else { break }
      let record = UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self).pointee.record
      let found = isFound ? Int(record.data.text.dropFirst()) ?? -1 : nil
      node.ledger.endRead(uri: uri, found, expectation, isLinear: node.style.isLinear, name)
    case .list, .readMulti: break
    }
    // What a transport does then takes time, and other threads run.
    if Dice.percent(20) { Pause.turn() }
  }
}

/// One client, which asks for one thing after the other.
final class Client {
  private(set) var request: Request?
  private let node: SimulatedNode

  init(_ node: SimulatedNode) { self.node = node }

  var isFree: Bool { request?.isAnswered ?? true }

  func begin() {
    guard let caller = node.transport() else { return }
    let uri = Dice.below(node.style.uris)
    let kind: Request.Kind =
      switch Dice.below(20) {
      case 0..<10: .write(node.ledger.begin(uri: uri))
      case 10..<17: .read(node.ledger.beginRead(uri: uri))
      case 17..<19: .list
      default: .readMulti
      }
    send(kind, uri: uri, caller)
  }

  /// One after the other, without any pause.
  func burst(_ count: Int) {
    for _ in 0..<count where isFree {
      guard let caller = node.transport() else { return }
      let uri = Dice.below(node.style.uris)
      send(.read(node.ledger.beginRead(uri: uri)), uri: uri, caller)
    }
  }

  private func send(_ kind: Request.Kind, uri: Int, _ caller: bp_instance) {
    var header = bp_call()
    header.size = UInt32(MemoryLayout<bp_call>.size)
    var timeoutMs = UInt64(node.style.requestTimeoutMs)
    if Dice.percent(20) {
      timeoutMs = min(timeoutMs, UInt64(1 + Dice.below(100)))
      header.deadline_ns = simulation_now_ns() + timeoutMs * 1_000_000
    }
    // Several reads come one after the other, each with a time of its own.
    if case .readMulti = kind { timeoutMs *= 3 }
    let request = Request(
      node.requests.count, kind, uri: uri, node, caller: caller,
      answeredByNs: simulation_now_ns() + timeoutMs * 1_000_000)
    self.request = request
    node.requests.append(request)
    request.send(&header)
  }

  func cancel() {
    guard let request, !request.isAnswered, request.token != 0 else { return }
    Report.trace("\(request.name) is cancelled")
    HostTable.pointer.pointee.cancel(request.caller, request.token)
  }
}
#endif
