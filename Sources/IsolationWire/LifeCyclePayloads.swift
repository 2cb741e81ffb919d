import BackplaneABI

/// The first frame to a child: which file it hosts, under which bounds. Configuration and secrets follow in `configure`;
/// neither is ever an argument or in the environment.
public struct Greeting: Sendable {
  public var wireVersion = Wire.version
  public var stagedPath: String
  public var slot: String
  public var pluginID: String
  public var pluginVersion: String
  /// DT_NEEDED of the plugin.
  public var neededLibraries: [String]
  /// Host extensions that the kernel has.
  public var extensions: [String]
  /// 0: none.
  public var memorySizeBytesMax: UInt64
  public var descriptorsMax: UInt64
  public var cpuSecondsMax: UInt64

  public init(
    stagedPath: String, slot: String, pluginID: String, pluginVersion: String, neededLibraries: [String],
    extensions: [String], memorySizeBytesMax: UInt64, descriptorsMax: UInt64, cpuSecondsMax: UInt64
  ) {
    self.stagedPath = stagedPath
    self.slot = slot
    self.pluginID = pluginID
    self.pluginVersion = pluginVersion
    self.neededLibraries = neededLibraries
    self.extensions = extensions
    self.memorySizeBytesMax = memorySizeBytesMax
    self.descriptorsMax = descriptorsMax
    self.cpuSecondsMax = cpuSecondsMax
  }

  public init?(_ payload: UnsafeRawBufferPointer) {
    var reader = WireReader(payload)
    wireVersion = reader.u32()
    stagedPath = reader.text()
    slot = reader.text()
    pluginID = reader.text()
    pluginVersion = reader.text()
    neededLibraries = reader.texts()
    extensions = reader.texts()
    memorySizeBytesMax = reader.u64()
    descriptorsMax = reader.u64()
    cpuSecondsMax = reader.u64()
    guard reader.isWhole, wireVersion == Wire.version else { return nil }
  }
}

extension WireReader {
  mutating func texts() -> [String] { (0..<count(bytesEach: 4)).map { _ in text() } }
}

extension WireSink {
  mutating func put(_ texts: [String]) {
    put(UInt32(texts.count))
    for text in texts { put(text) }
  }
}

extension Greeting: WirePayload {
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(wireVersion)
    sink.put(stagedPath)
    sink.put(slot)
    sink.put(pluginID)
    sink.put(pluginVersion)
    sink.put(neededLibraries)
    sink.put(extensions)
    sink.put(memorySizeBytesMax)
    sink.put(descriptorsMax)
    sink.put(cpuSecondsMax)
  }
}

/// What is known of a plugin's tables once it is configured.
public struct PluginFacts: Sendable, Equatable {
  public struct Backend: Sendable, Equatable {
    public var flags: UInt32 = 0
    public var durabilityMax: UInt32 = 0
    /// It has backplane.backend.query/1.
    public var answersQueries = false
    public init() {}
  }
  public struct Program: Sendable, Equatable {
    public var key: [UInt8]
    public var flags: UInt32
    public init(key: [UInt8], flags: UInt32) {
      self.key = key
      self.flags = flags
    }
  }
  public struct Schema: Sendable, Equatable {
    public var flags: UInt32 = 0
    public var hasCanonicalForm = false
    public var programs: [Program] = []
    public init() {}
  }
  public struct State: Sendable, Equatable {
    public var formatVersion: UInt32 = 0
    public var formatVersionOldest: UInt32 = 0
    public init() {}
  }

  public struct Service: Sendable, Equatable {
    public var wantsReady = false
    public var wantsEnding = false
    public init() {}
  }

  public var backend: Backend?
  public var schema: Schema?
  public var isTransport = false
  public var service: Service?
  public var state: State?
  public var cancels = false
  public var grants = false

  public init() {}
}

/// The end of a life-cycle function.
public struct LifeCycleAnswer: Sendable {
  public struct Diagnostic: Sendable {
    public var severity: UInt32
    public var pointer: String
    public var message: String
    public init(severity: UInt32, pointer: String, message: String) {
      self.severity = severity
      self.pointer = pointer
      self.message = message
    }
  }

  public var code: bp_code
  public var diagnostics: [Diagnostic] = []
  /// After a `configure` that returned BP_OK.
  public var facts: PluginFacts?

  public init(code: bp_code, diagnostics: [Diagnostic] = [], facts: PluginFacts? = nil) {
    self.code = code
    self.diagnostics = diagnostics
    self.facts = facts
  }

  public static let diagnosticsMax = 100

  public init?(_ payload: UnsafeRawBufferPointer) {
    var reader = WireReader(payload)
    code = reader.u32()
    diagnostics = (0..<reader.count(bytesEach: 12)).map { _ in
      Diagnostic(severity: reader.u32(), pointer: reader.text(), message: reader.text())
    }
    if reader.u32() != 0 { facts = PluginFacts(&reader) }
    guard reader.isWhole, diagnostics.count <= LifeCycleAnswer.diagnosticsMax else { return nil }
  }
}

extension LifeCycleAnswer: WirePayload {
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(code)
    sink.put(UInt32(diagnostics.count))
    for diagnostic in diagnostics {
      sink.put(diagnostic.severity)
      sink.put(diagnostic.pointer)
      sink.put(diagnostic.message)
    }
    sink.put(UInt32(facts == nil ? 0 : 1))
    facts?.put(into: &sink)
  }
}

extension PluginFacts: WirePayload {
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(UInt32(backend == nil ? 0 : 1))
    sink.put(backend?.flags ?? 0)
    sink.put(backend?.durabilityMax ?? 0)
    sink.put(UInt32(backend?.answersQueries == true ? 1 : 0))
    sink.put(UInt32(schema == nil ? 0 : 1))
    sink.put(schema?.flags ?? 0)
    sink.put(UInt32(schema?.hasCanonicalForm == true ? 1 : 0))
    let programs = schema?.programs ?? []
    sink.put(UInt32(programs.count))
    for program in programs {
      sink.put(program.flags)
      program.key.withUnsafeBufferPointer { sink.put(bp_view(data: $0.baseAddress, size: UInt64($0.count))) }
    }
    sink.put(UInt32(isTransport ? 1 : 0))
    sink.put(UInt32(service == nil ? 0 : 1))
    sink.put(UInt32(service?.wantsReady == true ? 1 : 0))
    sink.put(UInt32(service?.wantsEnding == true ? 1 : 0))
    sink.put(UInt32(state == nil ? 0 : 1))
    sink.put(state?.formatVersion ?? 0)
    sink.put(state?.formatVersionOldest ?? 0)
    sink.put(UInt32(cancels ? 1 : 0))
    sink.put(UInt32(grants ? 1 : 0))
  }

  init(_ reader: inout WireReader) {
    self.init()
    var backend = Backend()
    let hasBackend = reader.u32() != 0
    backend.flags = reader.u32()
    backend.durabilityMax = reader.u32()
    backend.answersQueries = reader.u32() != 0
    if hasBackend { self.backend = backend }
    var schema = Schema()
    let hasSchema = reader.u32() != 0
    schema.flags = reader.u32()
    schema.hasCanonicalForm = reader.u32() != 0
    schema.programs = (0..<reader.count(bytesEach: 8)).map { _ in
      let flags = reader.u32()
      let key = reader.view()
      return Program(key: Array(UnsafeBufferPointer(start: key.data, count: Int(key.size))), flags: flags)
    }
    if hasSchema { self.schema = schema }
    isTransport = reader.u32() != 0
    var service = Service()
    let hasService = reader.u32() != 0
    service.wantsReady = reader.u32() != 0
    service.wantsEnding = reader.u32() != 0
    if hasService { self.service = service }
    var state = State()
    let hasState = reader.u32() != 0
    state.formatVersion = reader.u32()
    state.formatVersionOldest = reader.u32()
    if hasState { self.state = state }
    cancels = reader.u32() != 0
    grants = reader.u32() != 0
  }
}

private struct ConfigurePayload: WirePayload {
  let configuration: UnsafePointer<bp_configuration>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(configuration.pointee.purpose)
    sink.put(configuration.pointee.slot)
    sink.put(configuration.pointee.json)
    sink.put(configuration.pointee.state_directory)
  }
}

/// A configuration as it was received; views point into the payload.
public enum ReceivedConfiguration {
  public static func with<R>(_ payload: UnsafeRawBufferPointer, _ body: (UnsafePointer<bp_configuration>) -> R) -> R? {
    var reader = WireReader(payload)
    var configuration = bp_configuration()
    configuration.size = UInt32(MemoryLayout<bp_configuration>.size)
    configuration.purpose = reader.u32()
    configuration.slot = reader.view()
    configuration.json = reader.view()
    configuration.state_directory = reader.view()
    guard reader.isWhole else { return nil }
    return body(&configuration)
  }
}

extension Connection {
  /// The first frame. Its answer is the frame `answer` of the same id, like that of every life-cycle function.
  public func sendGreeting(_ id: UInt64, _ greeting: Greeting) -> Outcome {
    send(.greeting, id, greeting, isUrgent: true)
  }

  public func sendConfigure(_ id: UInt64, _ configuration: UnsafePointer<bp_configuration>) -> Outcome {
    send(.configure, id, ConfigurePayload(configuration: configuration), isUrgent: true)
  }

  /// `create`, `start`, `quiesce`, `stop` or `destroy`.
  public func sendStep(_ id: UInt64, _ step: FrameKind, deadlineNs: UInt64) -> Outcome {
    send(step, id, NumberPayload(value: deadlineNs), isUrgent: true)
  }

  @discardableResult
  public func sendAnswer(_ id: UInt64, _ answer: LifeCycleAnswer) -> Outcome {
    send(.answer, id, answer, isUrgent: true)
  }
}
