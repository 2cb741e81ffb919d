import JSONText

extension JSONSlice {
  var isString: Bool { kind == .string }
  var isObject: Bool { kind == .object }
  /// Finite only: another number is signed as `null`, so it must not be read as anything else.
  var number: Double? { JSONNumber.value(of: self).flatMap { $0.isFinite ? $0 : nil } }
  var bool: Bool? { kind == .true ? true : kind == .false ? false : nil }
  var nonEmptyText: String? { isString && bytes.count > 2 ? text : nil }

  func string(_ name: StaticString) -> String? { member(name)?.text }
  func number(_ name: StaticString) -> Double? { member(name)?.number }
}

extension Int64 {
  /// The nearest whole number; the ends of the range for what lies outside.
  init(clamping number: Double) {
    guard let exact = Int64(exactly: number.rounded()) else {
      self = number > 0 ? .max : number < 0 ? .min : 0
      return
    }
    self = exact
  }
}

/// Calls `body` with the one JSON value that `bytes` are.
func withDocument<Value>(
  _ bytes: [UInt8], _ body: (JSONSlice) -> Result<Value, DocumentError>
) throws(DocumentError) -> Value {
  let outcome = bytes.withUnsafeBytes { raw -> Result<Value, DocumentError> in
    switch JSONScanner(depthMax: ManagedDocument.depthMax).scan(raw) {
    case .success(let value): body(value)
    case .failure(let error): .failure(.notJSON(error))
    }
  }
  return try outcome.get()
}

/// Escapes one step of a JSON pointer.
func pointerStep(_ key: String) -> String {
  var text = ""
  for scalar in key.unicodeScalars {
    switch scalar {
    case "~": text += "~0"
    case "/": text += "~1"
    default: text.unicodeScalars.append(scalar)
    }
  }
  return text
}

func isHexadecimalDigit(_ byte: UInt8) -> Bool {
  (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20)
}
