/// The documents of one collection, with the order of `uri` that an index gives.
struct StoredCollection {
  struct Stored {
    var document: Document
    /// When it was last changed, by the server's own count.
    var revision: Int
  }

  /// Of an index, as it was asked for, with its name.
  private(set) var indexes: [Document] = [["v": .int32(2), "key": .document(["_id": .int32(1)]), "name": "_id_"]]

  init() {}

  /// One whose texts are compared in the way of a language.
  init(locale: String) { indexes[0]["collation"] = .document(["locale": .text(Text(locale))]) }

  private(set) var stored: [Int: Stored] = [:]
  private var placesByURI: [Text: [Int]] = [:]
  private var nextPlace = 0
  /// When a URI that has no document any more lost it.
  private var goneSince: [Text: Int] = [:]
  /// Sorted; nil when records have come or gone since.
  private var sortedURIs: [Text]?

  var hasUniqueURI: Bool {
    indexes.contains { $0["key"]?.document == ["uri": .int32(1)] && $0["unique"]?.bool == true }
  }

  // MARK: Looking

  /// Places of documents that match, in the order in which they came, or of their URIs when the filter has a range.
  mutating func places(_ filter: Filter) -> [Int] {
    let candidates: [Int]
    if let uris = filter.uris {
      candidates = uris.flatMap { placesByURI[$0] ?? [] }.sorted()
    } else {
      let bounds = filter.uriBounds
      if bounds.from != nil || bounds.below != nil {
        let uris = sorted()
        let start = bounds.from.map { from in uris.partitioningIndex { $0 >= from } } ?? 0
        let end = bounds.below.map { below in uris.partitioningIndex { $0 >= below } } ?? uris.count
        candidates = start < end ? uris[start..<end].flatMap { placesByURI[$0] ?? [] } : []
      } else {
        candidates = stored.keys.sorted()
      }
    }
    return candidates.filter { filter.matches(stored[$0]!.document) }
  }

  private mutating func sorted() -> [Text] {
    if let sortedURIs { return sortedURIs }
    let made = placesByURI.keys.sorted()
    sortedURIs = made
    return made
  }

  /// When a URI's document last changed or went; 0: there never was one.
  func revision(of uri: Text) -> Int {
    max(placesByURI[uri]?.compactMap { stored[$0]?.revision }.max() ?? 0, goneSince[uri] ?? 0)
  }

  // MARK: Changing

  mutating func insert(_ document: Document, revision: Int) throws(ServerError) {
    let uri = document["uri"]?.text
    if let uri, hasUniqueURI, placesByURI[uri] != nil { throw Self.duplicate(uri) }
    let place = nextPlace
    nextPlace += 1
    stored[place] = Stored(document: document, revision: revision)
    if let uri {
      if placesByURI[uri] == nil { sortedURIs = nil }
      placesByURI[uri, default: []].append(place)
    }
  }

  static func duplicate(_ uri: Text) -> ServerError {
    ServerError(
      11_000, "DuplicateKey",
      "E11000 duplicate key error collection: test index: backplane_uri dup key: { uri: \"\(uri)\" }")
  }

  mutating func replace(_ place: Int, _ document: Document, revision: Int) throws(ServerError) {
    guard document["uri"] == stored[place]!.document["uri"] else {
      throw .badValue("changing uri in place is not supported here")
    }
    stored[place] = Stored(document: document, revision: revision)
  }

  mutating func remove(_ place: Int, revision: Int) {
    guard let old = stored.removeValue(forKey: place) else { return }
    guard let uri = old.document["uri"]?.text else { return }
    goneSince[uri] = revision
    placesByURI[uri]?.removeAll { $0 == place }
    if placesByURI[uri]?.isEmpty == true {
      placesByURI[uri] = nil
      sortedURIs = nil
    }
  }

  mutating func createIndex(_ index: Document) throws(ServerError) {
    guard let key = index["key"]?.document, let name = index["name"]?.text else {
      throw .failedToParse("an index has a key and a name")
    }
    let known: Set<Text> = ["key", "name", "unique", "collation", "v"]
    if let other = index.fields.first(where: { !known.contains($0.name) }) {
      throw ServerError(197, "InvalidIndexSpecificationOption", "The field '\(other.name)' is not valid for an index")
    }
    for old in indexes where old["key"]?.document == key {
      if old["unique"]?.bool == index["unique"]?.bool {
        if old["name"]?.text == name { return }
        throw ServerError(
          85, "IndexOptionsConflict", "Index already exists with a different name: \(old["name"]?.text ?? "")")
      }
      throw ServerError(
        85, "IndexOptionsConflict", "An equivalent index already exists with a different name and options.")
    }
    if index["unique"]?.bool == true, key == ["uri": .int32(1)] {
      if let twice = placesByURI.first(where: { $0.value.count > 1 }) { throw Self.duplicate(twice.key) }
    }
    var made = index
    made["v"] = .int32(2)
    // The simple comparison is what there is without one.
    if made[path: "collation.locale"] == "simple" { made["collation"] = nil }
    indexes.append(made)
  }
}

extension Array {
  /// The first index at which `isBeyond` holds, of an array where it holds from some point on.
  fileprivate func partitioningIndex(_ isBeyond: (Element) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if isBeyond(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
