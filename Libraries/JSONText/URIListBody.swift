/// Why a body holds no list of URIs.
public enum URIListRejection: Error, Equatable, Sendable {
  /// Not JSON, not UTF-8 or nested too deeply; the error tells which.
  case malformed(JSONError)
  /// Not an object, or `uris` absent or not an array.
  case notAList
  /// The element at this index is not a string.
  case notAString(index: Int)
  /// More elements than allowed.
  case tooMany(countMax: Int)

  /// One sentence for the caller.
  public var text: String {
    switch self {
    case .malformed(let error): return error.description
    case .notAList: return "Invalid request format: expected { uris: [uri, …] }"
    case .notAString(let index): return "Invalid request format: uris[\(index)] is not a string"
    case .tooMany(let countMax): return "Too many URIs: at most \(countMax) can be read at once"
    }
  }
}

extension JSONScanner {
  /// Validates a body `{"uris":[…]}` strictly and finds its strings, in one pass. Of several `uris` the last counts;
  /// other members are ignored.
  /// - Parameter countMax: the most URIs taken; one more is a rejection.
  /// - Returns: slices that borrow from `body`. Empty strings are left in for the caller to judge.
  public func scanURIs(
    _ body: UnsafeRawBufferPointer, countMax: Int
  ) -> Result<[JSONSlice], URIListRejection> {
    guard var cursor = cursor(over: body) else { return .failure(.notAList) }
    var outcome = Result<[JSONSlice], URIListRejection>.failure(.notAList)
    guard cursor.scanURIList(into: &outcome, countMax: countMax), cursor.finish() else {
      return .failure(.malformed(cursor.problem))
    }
    return outcome
  }
}

extension JSONCursor {
  fileprivate mutating func scanURIList(
    into outcome: inout Result<[JSONSlice], URIListRejection>, countMax: Int
  ) -> Bool {
    skipWhitespace()
    guard next < end, next.pointee == 0x7B else { return value(depth: 0) != nil }
    guard open(depth: 0) else { return false }
    var isFirst = true
    while true {
      var key: JSONSlice?
      switch stepMember(isFirst: &isFirst, key: &key) {
      case .refused: return false
      case .end: return true
      case .item: break
      }
      let isList = key?.isText("uris") == true
      if isList, next < end, next.pointee == 0x5B {
        guard scanStrings(into: &outcome, countMax: countMax) else { return false }
      } else {
        if value(depth: 1) == nil { return false }
        if isList { outcome = .failure(.notAList) }
      }
    }
  }

  private mutating func scanStrings(
    into outcome: inout Result<[JSONSlice], URIListRejection>, countMax: Int
  ) -> Bool {
    guard open(depth: 1) else { return false }
    var found: [JSONSlice] = []
    var rejection: URIListRejection?
    var count = 0
    var isFirst = true
    while true {
      switch stepElement(isFirst: &isFirst) {
      case .refused: return false
      case .end:
        outcome = rejection.map { .failure($0) } ?? .success(found)
        return true
      case .item: break
      }
      guard let element = value(depth: 2) else { return false }
      if rejection == nil {
        if count >= countMax {
          rejection = .tooMany(countMax: countMax)
        } else if element.kind != .string {
          rejection = .notAString(index: count)
        } else {
          found.append(element)
        }
      }
      count += 1
    }
  }
}
