import Foundation

/// The vectors that lie beside the package: `../shared/vectors`, or under BACKPLANE_SHARED.
public enum SharedFiles {
  public struct Missing: Error, CustomStringConvertible {
    public var description: String
  }

  public static func vectors(_ name: String, sourceFile: String = #filePath) throws -> Data {
    let shared =
      ProcessInfo.processInfo.environment["BACKPLANE_SHARED"].map { URL(fileURLWithPath: $0) }
      ?? (0..<4).reduce(URL(fileURLWithPath: sourceFile)) { url, _ in url.deletingLastPathComponent() }
      .appendingPathComponent("shared")
    let file = shared.appendingPathComponent("vectors").appendingPathComponent(name)
    guard let data = try? Data(contentsOf: file) else {
      throw Missing(
        description: "\(file.path) cannot be read: set BACKPLANE_SHARED to the folder that holds vectors/.")
    }
    return data
  }
}
