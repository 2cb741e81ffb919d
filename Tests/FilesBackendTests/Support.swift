import BackendTesting
import FilesBackend
import Foundation
import PluginAPI
import Testing

func files(_ scratch: ScratchDirectory, _ settings: String = #""durability":"os""#) throws -> TestBackend {
  try TestBackend.started(FilesBackend.self, "{\(settings)}", stateDirectory: scratch.path)
}

/// The directory as a person sees it.
struct Folder {
  let path: String

  init(_ scratch: ScratchDirectory, _ name: String = "records") { path = "\(scratch.path)/\(name)" }

  func write(_ name: String, _ text: String) throws {
    let file = URL(fileURLWithPath: "\(path)/\(name)")
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: file)
  }

  func read(_ name: String) -> [UInt8]? { FileManager.default.contents(atPath: "\(path)/\(name)").map { Array($0) } }

  func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(name)") }

  /// Files and empty directories, without what is the node's own.
  var names: [String] {
    let all = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
    return all.filter { name in
      !name.hasPrefix(".backplane") && !all.contains { $0.hasPrefix("\(name)/") }
    }.sorted()
  }

  /// Seconds and nanoseconds.
  func setTime(_ name: String, _ seconds: Int, _ nanoseconds: Int = 0) {
    var times = [timespec(tv_sec: seconds, tv_nsec: nanoseconds), timespec(tv_sec: seconds, tv_nsec: nanoseconds)]
    #expect(utimensat(AT_FDCWD, "\(path)/\(name)", &times, 0) == 0)
  }

  func mode(_ name: String) -> mode_t {
    var status = stat()
    return lstat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o7777 : 0
  }
}

/// A time and a version as the kernel gives them.
enum KernelStamp {
  static let timestampMs: UInt64 = 1_763_733_600_123
  static func version(_ count: UInt64 = 0) -> UInt64 { timestampMs << 20 | count << 4 }
}
