import Foundation

/// Golden data recorded on the reference implementation; it lives beside the package, or where BACKPLANE_SHARED says.
public enum SharedVectors {
  /// A test that needs data that is not there fails with this sentence.
  public struct Unusable: Error, CustomStringConvertible {
    public let description: String
  }

  /// A file of vectors/, as it is.
  public static func data(_ name: String) throws -> Data {
    let root =
      ProcessInfo.processInfo.environment["BACKPLANE_SHARED"].map { URL(filePath: $0) }
      ?? URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../shared").standardized
    let file = root.appending(path: "vectors/\(name)")
    do {
      return try Data(contentsOf: file)
    } catch {
      throw Unusable(
        description: "\(file.path) cannot be read: set BACKPLANE_SHARED to the folder that holds vectors/. (\(error))")
    }
  }

  public static func object(_ name: String) throws -> [String: Any] {
    guard let object = try JSONSerialization.jsonObject(with: try data(name)) as? [String: Any] else {
      throw Unusable(description: "\(name) is no object")
    }
    return object
  }

  /// One list of b3nd.json.
  public static func list(_ name: String) throws -> [[String: Any]] {
    guard let list = try object("b3nd.json")[name] as? [[String: Any]] else {
      throw Unusable(description: "b3nd.json has no list \(name)")
    }
    return list
  }

  /// The exchanges of one group, in order.
  public static func exchanges(group: String) throws -> [[String: Any]] {
    guard let all = try object("b3nd-http.json")["exchanges"] as? [[String: Any]] else {
      throw Unusable(description: "b3nd-http.json has no list exchanges")
    }
    return all.filter { $0["group"] as? String == group }
  }
}
