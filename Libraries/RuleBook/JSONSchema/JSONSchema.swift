import ICUShim
import JSONText
import PluginAPI
import ValijsonShim

/// A compiled JSON Schema. Any number of threads may check with it at a time.
final class JSONSchema: Sendable {
  /// What a check may use.
  struct Bounds: Sendable, Equatable {
    /// Largest value; it is held in memory some ten to thirty times over for the check.
    var sizeBytesMax = 1 << 20
    /// Most schemas inside one another, and so the deepest value that a schema of itself can describe.
    var depthMax = 64
  }

  /// Deepest nesting of a value. Reading it recurses nowhere, what is done with it does.
  static let valueDepthMax = 128
  private static let differencesMax: UInt32 = 8
  /// With more schemas in it than this a document is compiled on a thread with a stack of its own, which holds
  /// `SchemaPreparation.schemasMax`.
  private static let smallSchemasMax = 50
  private static let stackSizeBytes = 128 << 20
  /// What a schema may take for the smallest values.
  private static let trialMsMax = 1000

  enum Outcome: Equatable, Sendable {
    case fits
    /// At least one.
    case differs([Difference])
    /// It could not be found out; a sentence, and the bound that was hit.
    case undecided(String, bound: RuleBound? = nil)
  }

  struct Difference: Equatable, Sendable {
    /// Into the value.
    var pointer: String
    var keyword: String
    var text: String

    /// `/amount: Expected a number … (minimum)`
    var description: String { "\(pointer.isEmpty ? "the value" : pointer): \(text) (\(keyword))" }
  }

  private let schema: SchemaPointer
  let bounds: Bounds

  private struct SchemaPointer: @unchecked Sendable {
    // @unchecked: the engine lets any number of threads check with one schema.
    let pointer: OpaquePointer
  }

  struct Problem: Error, Equatable {
    /// The name of another document; nil: the schema itself.
    var document: String?
    var pointer: String
    var message: String
  }

  struct Problems: Error, Equatable { var problems: [Problem] }

  /// - Parameters:
  ///   - documents: what a `$ref` can name besides.
  ///   - isStrict: unknown keywords are problems.
  /// - Throws: `Problems`, at least one.
  init(
    _ value: RuleValue, documents: [String: RuleValue] = [:], bounds: Bounds = Bounds(), isStrict: Bool = true
  ) throws(Problems) {
    self.bounds = bounds
    var preparation = SchemaPreparation(value, documents: documents, isStrict: isStrict)
    let draft = preparation.draft()
    let prepared = preparation.prepare()
    guard let draft, preparation.problems.isEmpty else {
      throw Problems(
        problems: preparation.problems.map { Problem(document: $0.document, pointer: $0.pointer, message: $0.message) })
    }
    var json: [UInt8] = []
    prepared.write(to: &json)
    var text = [CChar](repeating: 0, count: 512)
    let stackSizeBytes = preparation.schemaCount > Self.smallSchemasMax ? Self.stackSizeBytes : 0
    guard let opened = valijson_shim_open(json, json.count, draft, stackSizeBytes, &text, text.count) else {
      let reason = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      throw Problems(problems: [Problem(document: nil, pointer: "", message: "The schema cannot be used: \(reason)")])
    }
    schema = SchemaPointer(pointer: opened)
    try checkEnds()
  }

  deinit { valijson_shim_close(schema.pointer) }

  /// A schema that asks for itself at the same place of a value never comes to an end, and one whose parts ask for each
  /// other twice over hardly ever.
  private func checkEnds() throws(Problems) {
    let deadlineNs = icu_shim_now_ns() + Int64(Self.trialMsMax) * 1_000_000
    for sample in ["null", "true", "1", "\"a\"", "[]", "{}"] {
      let outcome = Array(sample.utf8).withUnsafeBufferPointer {
        run($0, deadlineNs: deadlineNs, explains: false).result
      }
      let message: String
      switch outcome {
      case VALIJSON_SHIM_TOO_DEEP:
        message =
          "The schema refers to itself without going deeper into the value (or is nested deeper than "
          + "json_schema_depth_max, \(bounds.depthMax)), so that a check would not end."
      case VALIJSON_SHIM_TOO_SLOW:
        message = "Checking \(sample) takes longer than \(Self.trialMsMax) ms. Its parts ask for one another too often."
      default: continue
      }
      throw Problems(problems: [Problem(document: nil, pointer: "", message: message)])
    }
  }

  /// Checks one JSON text.
  /// - Parameters:
  ///   - json: the text; scanned here.
  ///   - deadlineNs: CLOCK_MONOTONIC.
  func check(_ json: UnsafeBufferPointer<UInt8>, deadlineNs: Int64) -> Outcome {
    guard json.count <= bounds.sizeBytesMax else {
      return .undecided(
        "the value has \(json.count) bytes, and \(bounds.sizeBytesMax) is the most that is checked "
          + "(json_schema_size_bytes_max)", bound: .jsonSchemaSize)
    }
    if case .failure(let problem) = JSONScanner(depthMax: Self.valueDepthMax).scan(json) {
      return .undecided("\(problem)")
    }
    let quick = run(json, deadlineNs: deadlineNs, explains: false)
    switch quick.result {
    case VALIJSON_SHIM_FITS: return .fits
    case VALIJSON_SHIM_DIFFERS:
      // Again, to say what it is: most messages fit.
      let explained = run(json, deadlineNs: deadlineNs, explains: true)
      return .differs(
        explained.result == VALIJSON_SHIM_DIFFERS
          ? explained.differences : [Difference(pointer: "", keyword: "schema", text: "The value does not fit.")])
    case VALIJSON_SHIM_TOO_DEEP:
      return .undecided(
        "the value is nested deeper than \(bounds.depthMax) schemas (json_schema_depth_max)", bound: .jsonSchemaDepth)
    case VALIJSON_SHIM_TOO_SLOW: return .undecided("the time for it is over (time_ms_max)", bound: .time)
    case VALIJSON_SHIM_UNREADABLE: return .undecided("a number in it is too large")
    default: return .undecided("the engine failed")
    }
  }

  private func run(
    _ json: UnsafeBufferPointer<UInt8>, deadlineNs: Int64, explains: Bool
  ) -> (result: valijson_shim_result, differences: [Difference]) {
    var limits = valijson_shim_bounds(
      deadline_ns: deadlineNs, depth_max: UInt32(bounds.depthMax), differences_max: Self.differencesMax)
    var differences: [Difference] = []
    let result = withUnsafeMutablePointer(to: &differences) { differences in
      valijson_shim_check(
        schema.pointer, json.baseAddress, json.count, &limits, differences,
        explains
          ? { context, pointer, pointerSize, keyword, text, textSize in
            guard let context, let pointer, let keyword, let text else { return }
            func string(_ start: UnsafePointer<CChar>, _ count: Int) -> String {
              String(
                decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
            }
            context.assumingMemoryBound(to: [Difference].self).pointee.append(
              Difference(
                pointer: string(pointer, pointerSize), keyword: String(cString: keyword), text: string(text, textSize)))
          } : nil)
    }
    return (result, differences)
  }
}
