/// What every plugin is: an object made from a validated configuration.
///
/// One instance serves one slot in one generation; many live side by side. There is no global state: keep what you need
/// in the instance. Methods may be called at the same time from many threads unless their comment says otherwise.
public protocol Plugin: AnyObject, Sendable {
  /// Decoded from the slot's configuration. Keys that nobody asks for are reported to the operator as mistakes.
  associatedtype Configuration: Decodable & Sendable

  /// Validates and keeps the configuration: no side effects, no I/O but reading files that it names. Throw
  /// `ConfigurationProblem` (with a JSON pointer), `ConfigurationErrors` or `Failure`. Control thread.
  init(_ configuration: Configuration, _ context: Context) throws

  /// Acquires resources and begins to serve. Control thread, bounded by the host. Runs on the instance's own executor.
  func start() async throws

  /// As `start()`, for what may take long: an instance that is not back by `deadline` is abandoned, and the sentence that
  /// says why is lost with it. The host calls this one.
  func start(_ deadline: Deadline) async throws

  /// Stops background work and finishes what is in flight; no new call comes. Bounded by `deadline`.
  func quiesce(_ deadline: Deadline) async

  /// Releases everything and joins the plugin's own threads. Nothing is called afterwards.
  func stop() async

  /// Proves that the image works, in a child process, with a scratch directory and never on a configured resource.
  /// Called on an instance that was made with `context.purpose == .test` and is not started.
  func selfTest(scratchDirectory: String) async throws

  /// Threads of the executor that async methods run on, 1 to 64. They are the instance's own: a method that blocks
  /// holds up this plugin alone.
  static var threads: Int { get }
}

extension Plugin {
  public func start() async throws {}
  public func start(_ deadline: Deadline) async throws { try await start() }
  public func quiesce(_ deadline: Deadline) async {}
  public func stop() async {}
  public func selfTest(scratchDirectory: String) async throws {}
  public static var threads: Int { 2 }
}

/// A configuration without keys.
public struct NoConfiguration: Decodable, Sendable {
  public init() {}
}
