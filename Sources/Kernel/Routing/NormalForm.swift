import BackplaneABI
import URIText

/// A URI in normal form, borrowed for the length of a closure.
struct NormalURI {
  let bytes: UnsafeBufferPointer<UInt8>
  let programLength: Int
  /// `mutable://open`.
  @inline(__always) var program: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(rebasing: bytes[0..<programLength]) }
}

enum NormalForm {
  /// Scratch of this size lies on the stack.
  private static let stackBytes = 1024

  /// Calls `body` with the normal and canonical form of `uri`, or with nil when it is not a URI. A URI that is in
  /// normal form already, as nearly all are, is not copied. Calls `unavailable` instead when the schema that knows the
  /// canonical form is away: the form as it stands might be another record's.
  @inline(__always)
  static func with<R>(
    _ uri: bp_view, _ generation: Generation, _ body: (NormalURI?) -> R, unavailable: () -> R
  ) -> R {
    let input = uri.bytes
    let wanted = URIText.scratchBytes(forInputBytes: input.count)
    func run(_ scratch: UnsafeMutableBufferPointer<UInt8>) -> R {
      let normal: NormalURI
      switch URIText.normalise(input, into: scratch) {
      case .unchanged(let programLength): normal = NormalURI(bytes: input, programLength: programLength)
      case .written(let length, let programLength):
        normal = NormalURI(bytes: UnsafeBufferPointer(rebasing: scratch[0..<length]), programLength: programLength)
      case .invalid, .tooLong: return body(nil)
      }
      guard !generation.canonical.isEmpty, let route = generation.canonicalRoute(normal.program) else {
        return body(normal)
      }
      return canonical(normal, route.schema, body, unavailable)
    }
    if wanted <= stackBytes {
      return withUnsafeTemporaryAllocation(byteCount: stackBytes, alignment: 1) {
        run($0.bindMemory(to: UInt8.self))
      }
    }
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: wanted) { run($0) }
  }

  /// The canonical form that the program's schema gives.
  private static func canonical<R>(
    _ normal: NormalURI, _ schema: Instance, _ body: (NormalURI?) -> R, _ unavailable: () -> R
  ) -> R {
    guard let table = schema.schema, let function = table.pointee.canonical_uri else { return body(normal) }
    // In flight as any call, so that an instance on its way out is not asked any more; its successor is.
    schema.inFlight.add(1, ordering: .sequentiallyConsistent)
    guard !schema.isClosed else {
      schema.inFlight.subtract(1, ordering: .releasing)
      guard let (lease, successor) = Admission.successor(of: schema) else { return unavailable() }
      defer { schema.kernel.ring.release(lease) }
      return canonical(normal, successor, body, unavailable)
    }
    var written: [UInt8] = []
    let code = withUnsafeMutablePointer(to: &written) { pointer in
      let sink = bp_sink(
        context: pointer,
        write: { context, view in
          context!.assumingMemoryBound(to: [UInt8].self).pointee.append(contentsOf: view.bytes)
        })
      return ThreadMark.own.during(.canonicalURI, schema.handle) {
        function(schema.pointer, bp_view(normal.bytes), sink)
      }
    }
    schema.inFlight.subtract(1, ordering: .releasing)
    if code == BP_UNAVAILABLE { return unavailable() }
    guard code == BP_OK, !written.isEmpty else { return body(normal) }
    return written.withUnsafeBufferPointer {
      body(NormalURI(bytes: $0, programLength: min(normal.programLength, $0.count)))
    }
  }
}
