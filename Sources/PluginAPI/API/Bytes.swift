/// Borrowed bytes. Valid as long as the call, message or record they came with; copy what is kept.
public typealias BorrowedBytes = UnsafeBufferPointer<UInt8>

extension bp_view {
  /// The bytes of this view, borrowed.
  @inlinable public var bytes: BorrowedBytes { BorrowedBytes(start: data, count: Int(size)) }

  /// A copy of the bytes.
  @inlinable public var array: [UInt8] { Array(bytes) }

  /// The text of this view; bytes that are not UTF-8 are replaced.
  @inlinable public var text: String { String(decoding: bytes, as: UTF8.self) }

  @inlinable public init(_ bytes: BorrowedBytes) {
    self.init(data: bytes.baseAddress, size: UInt64(bytes.count))
  }

  @inlinable public init(_ bytes: UnsafeRawBufferPointer) {
    self.init(data: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), size: UInt64(bytes.count))
  }

  /// No bytes.
  @inlinable public static var empty: bp_view { bp_view(data: nil, size: 0) }

  /// Whether the bytes are those of a literal, without making a String.
  @inlinable public func equals(_ literal: StaticString) -> Bool {
    guard Int(size) == literal.utf8CodeUnitCount else { return false }
    guard let data else { return true }
    for index in 0..<Int(size) where data[index] != literal.utf8Start[index] { return false }
    return true
  }
}

extension String {
  /// Calls `body` with a view of this text, valid during the call.
  @inlinable public func withView<R, E: Error>(_ body: (bp_view) throws(E) -> R) throws(E) -> R {
    // Short and native strings are borrowed in place; the closure's result is carried in a Result because
    // withUTF8 is not typed in what it throws.
    var copy = self
    let result: Result<R, E> = copy.withUTF8 { bytes in
      do throws(E) { return .success(try body(bp_view(bytes))) } catch { return .failure(error) }
    }
    return try result.get()
  }
}

extension Array where Element == UInt8 {
  /// Calls `body` with a view of these bytes, valid during the call.
  @inlinable public func withView<R, E: Error>(_ body: (bp_view) throws(E) -> R) throws(E) -> R {
    let result: Result<R, E> = withUnsafeBufferPointer { bytes in
      do throws(E) { return .success(try body(bp_view(bytes))) } catch { return .failure(error) }
    }
    return try result.get()
  }
}

extension UInt32 {
  /// The `size` field of a sized struct of the boundary.
  @inlinable public static func size<T>(of type: T.Type) -> UInt32 { UInt32(MemoryLayout<T>.size) }
}
