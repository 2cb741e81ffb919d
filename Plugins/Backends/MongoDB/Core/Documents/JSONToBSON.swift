import JSONText
import PluginAPI

/// A JSON value as the BSON that a JavaScript program would have stored for it: numbers are doubles, whole ones that fit
/// 32 bits are integers; of members with one name the last counts, at the place of the first; half a surrogate pair is
/// U+FFFD.
enum JSONToBSON {
  /// Arrays and objects open at once, at most: servers refuse documents that are nested deeper than 100 levels, and
  /// the record is inside of some already.
  static let depthMax = 80

  /// Appends `value` under `key`. False when BSON cannot say it, or a server would not keep it: a name with U+0000 in it
  /// or with a `$` in front, which means something to the server. What was appended until then is to be thrown away.
  static func append(_ value: JSONSlice, _ key: BSONKey, to builder: BSONBuilder) -> Bool {
    switch value.kind {
    case .null: builder.appendNull(key)
    case .true: builder.append(key, bool: true)
    case .false: builder.append(key, bool: false)
    case .number: append(JSONNumber.value(of: value) ?? 0, key, to: builder)
    case .string:
      var scratch: [UInt8] = []
      value.withText(scratch: &scratch) { builder.append(key, text: $0) }
    case .array:
      var isFaithful = true
      builder.append(key, array: { inner in isFaithful = appendElements(of: value, to: inner) })
      return isFaithful
    case .object:
      var isFaithful = true
      builder.nest(key, { inner in isFaithful = appendMembers(of: value, to: inner) })
      return isFaithful
    }
    return true
  }

  private static func append(_ number: Double, _ key: BSONKey, to builder: BSONBuilder) {
    if let whole = Int32(exactly: number), whole != 0 || number.sign == .plus {
      builder.append(key, int32: whole)
    } else {
      builder.append(key, double: number)
    }
  }

  private static func appendElements(of array: JSONSlice, to builder: BSONBuilder) -> Bool {
    var index = 0
    for element in array.elements {
      var digits = String(index)
      let isFaithful = digits.withUTF8 { append(element, BSONKey(UnsafeRawBufferPointer($0)), to: builder) }
      if !isFaithful { return false }
      index += 1
    }
    return true
  }

  private static func appendMembers(of object: JSONSlice, to builder: BSONBuilder) -> Bool {
    var names: [[UInt8]] = []
    var values: [JSONSlice] = []
    var places: [[UInt8]: Int] = [:]
    for (key, value) in object.members {
      var name: [UInt8] = []
      key.appendText(to: &name)
      if name.first == UInt8(ascii: "$") || name.contains(0) { return false }
      if let place = places.updateValue(values.count, forKey: name) {
        values[place] = value
        places[name] = place
      } else {
        names.append(name)
        values.append(value)
      }
    }
    for (name, value) in zip(names, values) {
      let isFaithful = name.withUnsafeBytes { append(value, BSONKey($0), to: builder) }
      if !isFaithful { return false }
    }
    return true
  }
}
