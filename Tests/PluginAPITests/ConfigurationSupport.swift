import PluginAPI
import Testing

func decode<T: Decodable>(_ type: T.Type, _ json: some Collection<UInt8>) throws(ConfigurationErrors) -> T {
  let bytes = Array(json)
  // A typed throw does not pass through the closure of every toolchain, so the outcome is carried out as a value.
  let outcome: Result<T, ConfigurationErrors> = bytes.withUnsafeBufferPointer { buffer in
    do throws(ConfigurationErrors) {
      return .success(try ConfigurationDecoder.decode(type, from: buffer))
    } catch {
      return .failure(error)
    }
  }
  return try outcome.get()
}

func decode<T: Decodable>(_ type: T.Type, _ json: String) throws(ConfigurationErrors) -> T {
  try decode(type, json.utf8)
}

/// What is wrong with `json`; empty when it decodes.
func problems<T: Decodable>(_ type: T.Type, _ json: some Collection<UInt8>) -> [ConfigurationProblem] {
  do throws(ConfigurationErrors) {
    _ = try decode(type, json)
    return []
  } catch {
    return error.problems
  }
}

/// The problems as lines, `pointer: message`.
func lines<T: Decodable>(_ type: T.Type, _ json: String) -> [String] {
  problems(type, json.utf8).map { "\($0.pointer): \($0.message)" }
}

/// Any document, to see what the parser made of it.
indirect enum Tree: Decodable, Equatable {
  case null
  case boolean(Bool)
  case whole(Int64)
  case real(Double)
  case text(String)
  case list([Tree])
  case object([String: Tree])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let flag = try? container.decode(Bool.self) {
      self = .boolean(flag)
    } else if let number = try? container.decode(Int64.self) {
      self = .whole(number)
    } else if let number = try? container.decode(Double.self) {
      self = .real(number)
    } else if let text = try? container.decode(String.self) {
      self = .text(text)
    } else if let items = try? container.decode([Tree].self) {
      self = .list(items)
    } else {
      self = .object(try container.decode([String: Tree].self))
    }
  }
}

/// SplitMix64: the same documents on every run.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
