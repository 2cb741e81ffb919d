/// What a connection has learnt about prefixes, for as long as the file does not change: how many records there are, and
/// where some of them stand, so that whoever reads page after page does not pay for the pages before.
struct CountedPrefixes {
  private struct Known {
    var total: Int
    /// Numbers of records, and texts from which on the record with that number is the first.
    var places: [(number: Int, bound: [UInt8])] = []
  }

  private static let prefixesMax = 256
  /// Of all prefixes; a place is a URI of up to 4 KiB.
  private static let placesMax = 512

  private var known: [[UInt8]: Known] = [:]
  private var placesCount = 0
  private var fileVersion: UInt64 = 0

  /// Forgets everything when the file is not as it was, and when it has become too much.
  mutating func begin(fileVersion: UInt64) {
    guard fileVersion != self.fileVersion || known.count >= Self.prefixesMax || placesCount >= Self.placesMax else {
      return
    }
    self.fileVersion = fileVersion
    known = [:]
    placesCount = 0
  }

  func total(_ prefix: [UInt8]) -> Int? { known[prefix]?.total }

  mutating func set(_ prefix: [UInt8], total: Int) { known[prefix] = Known(total: total) }

  /// The last known place up to record number `offset`; nil: the beginning.
  func place(_ prefix: [UInt8], before offset: Int) -> (number: Int, bound: [UInt8])? {
    known[prefix]?.places.filter { $0.number <= offset }.max { $0.number < $1.number }
  }

  mutating func add(_ prefix: [UInt8], _ number: Int, _ bound: some Collection<UInt8>) {
    guard known[prefix]?.places.contains(where: { $0.number == number }) == false else { return }
    known[prefix]?.places.append((number, Array(bound)))
    placesCount += 1
  }
}
