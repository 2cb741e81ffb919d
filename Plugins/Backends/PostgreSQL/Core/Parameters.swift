import PluginAPI

/// A statement under a name, prepared on every connection that uses it.
final class PreparedStatement: Sendable {
  let name: StaticString
  let sql: String
  /// Type identifiers of the parameters.
  let types: [UInt32]
  let parametersCount: Int32

  init(name: StaticString, sql: String, types: [UInt32] = []) {
    self.name = name
    self.sql = sql
    self.types = types
    parametersCount = Int32(types.count)
  }

  /// As C has it. Literals end with a zero byte.
  var nameText: UnsafePointer<CChar> { UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self) }

  enum Kind {
    static let bytea: UInt32 = 17
    static let bigint: UInt32 = 20
    static let smallint: UInt32 = 21
    static let text: UInt32 = 25
    static let textArray: UInt32 = 1009
  }
}

/// Values for one statement, all in binary. Bytes are borrowed until the statement is queued, which copies them.
final class Parameters {
  static let countMax = 9

  let values: UnsafeMutablePointer<UnsafePointer<CChar>?>
  let lengths: UnsafeMutablePointer<Int32>
  let formats: UnsafeMutablePointer<Int32>
  private let numbers: UnsafeMutablePointer<UInt64>

  init() {
    values = .allocate(capacity: Self.countMax)
    lengths = .allocate(capacity: Self.countMax)
    formats = .allocate(capacity: Self.countMax)
    numbers = .allocate(capacity: Self.countMax)
    values.initialize(repeating: nil, count: Self.countMax)
    lengths.initialize(repeating: 0, count: Self.countMax)
    formats.initialize(repeating: 1, count: Self.countMax)
    numbers.initialize(repeating: 0, count: Self.countMax)
  }

  deinit {
    values.deallocate()
    lengths.deallocate()
    formats.deallocate()
    numbers.deallocate()
  }

  /// `index` counts from 0.
  @inline(__always)
  func set(_ index: Int, _ bytes: BorrowedBytes) {
    // Never NULL for no bytes: a null pointer would be SQL's NULL.
    let start = UnsafeRawPointer(bytes.baseAddress) ?? UnsafeRawPointer(numbers)
    values[index] = start.assumingMemoryBound(to: CChar.self)
    lengths[index] = Int32(bytes.count)
  }

  @inline(__always)
  func set(_ index: Int, bigint number: UInt64) {
    numbers[index] = number.bigEndian
    values[index] = UnsafeRawPointer(numbers + index).assumingMemoryBound(to: CChar.self)
    lengths[index] = 8
  }

  @inline(__always)
  func set(_ index: Int, smallint number: UInt16) {
    UnsafeMutableRawPointer(numbers + index).storeBytes(of: number.bigEndian, as: UInt16.self)
    values[index] = UnsafeRawPointer(numbers + index).assumingMemoryBound(to: CChar.self)
    lengths[index] = 2
  }

  @inline(__always)
  func setNull(_ index: Int) {
    values[index] = nil
    lengths[index] = 0
  }

  static func array(keys: [[UInt8]]) -> [UInt8] {
    // Laid end to end, so that they can be borrowed together.
    let all = keys.flatMap { $0 }
    return all.withUnsafeBufferPointer { bytes in
      var start = 0
      return array(
        keys.map { key in
          defer { start += key.count }
          return BorrowedBytes(rebasing: bytes[start..<start + key.count])
        })
    }
  }

  /// A text[] in binary, for one parameter.
  static func array(_ items: some Collection<BorrowedBytes>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(20 + items.reduce(0) { $0 + $1.count + 4 })
    func append(_ number: Int) {
      withUnsafeBytes(of: UInt32(truncatingIfNeeded: number).bigEndian) { bytes.append(contentsOf: $0) }
    }
    append(items.isEmpty ? 0 : 1)
    append(0)
    append(Int(PreparedStatement.Kind.text))
    if items.isEmpty { return bytes }
    append(items.count)
    append(1)
    for item in items {
      append(item.count)
      bytes.append(contentsOf: item)
    }
    return bytes
  }
}
