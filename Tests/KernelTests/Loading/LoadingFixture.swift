import Foundation
import Glibc
import Testing

@testable import Kernel

/// A directory of the test's own, removed with it.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    let template = NSTemporaryDirectory() + "/backplane-loading-XXXXXX"
    var bytes = Array(template.utf8CString)
    guard mkdtemp(&bytes) != nil else { throw CommandFailure(output: "mkdtemp: \(String(cString: strerror(errno)))") }
    path = String(decoding: bytes.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
      .replacingOccurrences(of: "//", with: "/")
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }

  func makeDirectory(_ name: String, mode: mode_t = 0o755) -> String {
    let made = file(name)
    #expect(mkdir(made, mode) == 0)
    #expect(chmod(made, mode) == 0)
    return made
  }

  @discardableResult
  func write(_ name: String, _ bytes: [UInt8], mode: mode_t = 0o644) -> String {
    writeFile(file(name), bytes, mode: mode)
    return file(name)
  }
}

func writeFile(_ path: String, _ bytes: [UInt8], mode: mode_t = 0o644) {
  #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
  #expect(chmod(path, mode) == 0)
}

func readFile(_ path: String) throws -> [UInt8] { try Array(Data(contentsOf: URL(fileURLWithPath: path))) }

struct CommandFailure: Error, CustomStringConvertible {
  let output: String
  var description: String { output }
}

@discardableResult
func run(_ command: String, _ arguments: [String]) throws -> String {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = [command] + arguments
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  guard process.terminationStatus == 0 else {
    throw CommandFailure(output: "\(command) \(arguments.joined(separator: " ")): \(output)")
  }
  return output
}

/// Plugins made with the C compiler as an author would make them.
struct TinyPlugin {
  var manifest: String? = TinyPlugin.manifest()
  var code = "__attribute__((visibility(\"default\"))) const void *backplane_plugin_v1(void) { return 0; }"
  var flags: [String] = []

  static func manifest(id: String = "org.example.tiny", version: String = "1.2.3", _ more: String = "") -> String {
    """
    {"id": "\(id)", "version": "\(version)", "kinds": ["backend"], "schemes": ["tiny"],
     "abi": {"major": 0, "minor": 1}, "runtime": "c"\(more)}
    """
  }

  /// The content of the shared library.
  func build() throws -> [UInt8] {
    let folder = try TemporaryDirectory()
    var source = code + "\n"
    if let manifest {
      folder.write("manifest.json", Array(manifest.utf8))
      source += """
        __asm__(".pushsection .note.backplane,\\"a\\",%note\\n"
                ".balign 4\\n.long 10\\n.long 2f-1f\\n.long 1\\n.asciz \\"Backplane\\"\\n.balign 4\\n"
                "1: .incbin \\"\(folder.file("manifest.json"))\\"\\n2: .balign 4\\n.popsection\\n");

        """
    }
    folder.write("plugin.c", Array(source.utf8))
    try run(
      "cc",
      [
        "-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wl,--no-as-needed", "-o", folder.file("plugin.so"),
        folder.file("plugin.c"),
      ] + flags)
    return try readFile(folder.file("plugin.so"))
  }

  /// Built once for all tests that only need a sound one.
  static let sound: Result<[UInt8], any Error> = Result { try TinyPlugin().build() }
}

let testABI = Manifest.ABI(major: 0, minor: 1)

/// What `inspect` says of a file with this content.
func verdict(_ bytes: [UInt8], abi: Manifest.ABI = testABI) throws -> Refusal? {
  let folder = try TemporaryDirectory()
  let path = folder.write("x.so", bytes)
  do throws(Refusal) {
    _ = try Verify(abi: abi).inspect(path)
    return nil
  } catch {
    #expect(error.sentence.contains(path))
    #expect(error.sentence.hasSuffix("."))
    #expect(error.file == path && error.phase == .verified)
    return error
  }
}

func refusal<Value>(_ body: () throws(Refusal) -> Value) -> Refusal? {
  do throws(Refusal) {
    _ = try body()
    return nil
  } catch {
    return error
  }
}

/// SplitMix64: the same numbers on every machine for one seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
