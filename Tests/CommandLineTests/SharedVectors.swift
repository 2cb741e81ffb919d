import Foundation
import Testing

/// Golden data recorded on the reference implementation; it lives beside the package, or where BACKPLANE_SHARED says.
enum SharedVectors {
  static func object(_ name: String) throws -> [String: Any] {
    let root =
      ProcessInfo.processInfo.environment["BACKPLANE_SHARED"].map { URL(filePath: $0) }
      ?? URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../shared").standardized
    let file = root.appending(path: "vectors/\(name)")
    let data: Data
    do {
      data = try Data(contentsOf: file)
    } catch {
      Issue.record("\(file.path) cannot be read: set BACKPLANE_SHARED to the folder that holds vectors/. (\(error))")
      throw error
    }
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  /// One list of b3nd.json.
  static func list(_ name: String) throws -> [[String: Any]] {
    try #require(try object("b3nd.json")[name] as? [[String: Any]], "b3nd.json has no list \(name)")
  }
}
