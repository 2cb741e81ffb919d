/// What stands behind `bp_plugin.self` of a Swift plugin. The C tables hold plain functions, which cannot be generic; so
/// they call these methods, and the generic subclasses override them.
class InstanceBox {
  let host: HostHandle
  private var table: UnsafeMutablePointer<bp_plugin>?

  init(_ host: HostHandle) { self.host = host }

  deinit { table?.deallocate() }

  // Life cycle: control thread, one call at a time.
  func configure(_ configuration: bp_configuration, _ report: Reporter) -> bp_code { BP_UNIMPLEMENTED }
  func start(_ report: Reporter, deadlineNs: UInt64) -> bp_code { BP_UNIMPLEMENTED }
  func quiesce(_ report: Reporter, deadlineNs: UInt64) -> bp_code { BP_UNIMPLEMENTED }
  func stop(_ report: Reporter, deadlineNs: UInt64) -> bp_code { BP_UNIMPLEMENTED }
  func selfTest(_ report: Reporter, scratchDirectory: String, deadlineNs: UInt64) -> bp_code { BP_UNIMPLEMENTED }
  func destroy() {}

  // Any thread.
  func cancel(_ token: bp_token) {}
  func kindTable(_ id: bp_view) -> UnsafeRawPointer? { nil }

  // State.
  var stateTable: UnsafeRawPointer? { nil }
  func exportState(_ request: bp_state_export, _ token: bp_token) {}
  func importState(_ request: bp_state_import, _ token: bp_token) {}
  func grantState(_ token: bp_token, _ credits: UInt32) {}
  /// Says whether the token was a call of a handover.
  func cancelState(_ token: bp_token) -> Bool { false }

  // Backends.
  func apply(_ units: UnsafePointer<bp_unit>, _ count: Int) {}
  func read(_ reads: UnsafePointer<bp_read>, _ count: Int) {}
  func scan(_ scan: UnsafePointer<bp_scan>) {}
  func query(_ query: UnsafePointer<bp_query>) {}

  // Schemas.
  func programs(_ add: (bp_program) -> Void) {}
  func judge(_ message: UnsafePointer<bp_message>, _ token: bp_token) {}
  func canonical(_ uri: bp_view, _ write: (BorrowedBytes) -> Void) {}

  // Services.
  func nodeReady(_ call: bp_call, _ token: bp_token) {}
  func nodeEnding(_ call: bp_call, _ token: bp_token) {}

  // Transports.
  func connections() -> Int { 0 }

  /// The object behind a table's `self`, without a reference count: the table keeps it alive until destroy.
  @inline(__always)
  static func with<R>(_ pointer: UnsafeMutableRawPointer?, _ body: (InstanceBox) -> R) -> R {
    Unmanaged<InstanceBox>.fromOpaque(pointer!)._withUnsafeGuaranteedRef(body)
  }

  /// Hands this object to the C side, which gives it back to `destroy`.
  func intoTable() -> UnsafePointer<bp_plugin>? {
    let table = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
    self.table = table
    table.initialize(
      to: bp_plugin(
        size: .size(of: bp_plugin.self), reserved: 0, self: Unmanaged.passRetained(self).toOpaque(),
        configure: { pointer, configuration, report in
          InstanceBox.with(pointer) { $0.configure(configuration!.pointee, Reporter(report)) }
        },
        start: { pointer, deadline, report in
          InstanceBox.with(pointer) { $0.start(Reporter(report), deadlineNs: deadline) }
        },
        quiesce: { pointer, deadline, report in
          InstanceBox.with(pointer) { $0.quiesce(Reporter(report), deadlineNs: deadline) }
        },
        stop: { pointer, deadline, report in
          InstanceBox.with(pointer) { $0.stop(Reporter(report), deadlineNs: deadline) }
        },
        destroy: { pointer in
          let box = Unmanaged<InstanceBox>.fromOpaque(pointer!).takeRetainedValue()
          box.destroy()
        },
        cancel: { pointer, token in
          InstanceBox.with(pointer) { if !$0.cancelState(token) { $0.cancel(token) } }
        },
        // No kind that Swift has a protocol for streams; a handover does.
        grant: { pointer, token, credits in InstanceBox.with(pointer) { $0.grantState(token, credits) } },
        extension: { pointer, id in
          InstanceBox.with(pointer) { box in
            if id.equals("backplane.self_test/1") { return UnsafeRawPointer(InstanceBox.selfTestTable) }
            if id.equals("backplane.state/1") { return box.stateTable }
            return box.kindTable(id)
          }
        }))
    return UnsafePointer(table)
  }

  // One constant for all instances. nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) private static let selfTestTable: UnsafePointer<bp_self_test> = {
    let table = UnsafeMutablePointer<bp_self_test>.allocate(capacity: 1)
    table.initialize(
      to: bp_self_test(
        size: .size(of: bp_self_test.self), reserved: 0,
        run: { pointer, directory, deadline, report in
          InstanceBox.with(pointer) {
            $0.selfTest(Reporter(report), scratchDirectory: directory.text, deadlineNs: deadline)
          }
        }))
    return UnsafePointer(table)
  }()
}

/// The report of a life-cycle call.
struct Reporter {
  private let report: UnsafePointer<bp_report>?

  init(_ report: UnsafePointer<bp_report>?) { self.report = report }

  func error(_ message: String, pointer: String = "") {
    guard let report else { return }
    pointer.withView { pointerView in
      message.withView { messageView in
        var diagnostic = bp_diagnostic(
          size: .size(of: bp_diagnostic.self), severity: BP_SEVERITY_ERROR, pointer: pointerView, message: messageView)
        report.pointee.add(report.pointee.context, &diagnostic)
      }
    }
  }

  /// Reports any thrown error and says which code stands for it.
  func failed(_ error: any Error) -> bp_code {
    switch error {
    case let errors as ConfigurationErrors:
      for problem in errors.problems { self.error(problem.message, pointer: problem.pointer) }
      return BP_INVALID_ARGUMENT
    case let problem as ConfigurationProblem:
      self.error(problem.message, pointer: problem.pointer)
      return BP_INVALID_ARGUMENT
    default:
      let failure = Failure(error)
      self.error(failure.message)
      return failure.code
    }
  }
}
