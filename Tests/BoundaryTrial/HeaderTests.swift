import Foundation
import Testing

/// Each header compiles alone, in C and C++, without a warning, and includes nothing but three standard headers and
/// headers of ours.
struct HeaderTests {
  static let headers: [String] = {
    let folder = URL(fileURLWithPath: Toolbox.headers)
    let found = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
    return found.filter { $0.hasSuffix(".h") }.sorted()
  }()

  static let compilers = [
    ("gcc", "c", "c11"), ("clang", "c", "c11"), ("g++", "c++", "c++17"), ("clang++", "c++", "c++17"),
  ].filter { Toolbox.find($0.0) != nil }

  @Test func thereAreHeadersAndCompilers() {
    #expect(HeaderTests.headers.count >= 13)
    #expect(HeaderTests.compilers.contains { $0.1 == "c" } && HeaderTests.compilers.contains { $0.1 == "c++" })
  }

  @Test(arguments: HeaderTests.headers)
  func compilesAlone(_ header: String) async throws {
    for (compiler, language, standard) in HeaderTests.compilers {
      let source = Toolbox.scratch.appendingPathComponent("\(UUID().uuidString).\(language == "c" ? "c" : "cc")")
      // Twice, for the guard; the declaration because an empty translation unit is no C.
      try "#include <\(header)>\n#include <\(header)>\nextern int bp_trial;\n".write(
        to: source, atomically: true, encoding: .utf8)
      let (status, output) = try await Toolbox.run(
        compiler,
        [
          "-x", language, "-std=\(standard)", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
          "-I\(Toolbox.headers)", source.path,
        ])
      #expect(status == 0, "\(header) with \(compiler) -std=\(standard):\n\(output)")
    }
  }

  @Test(arguments: HeaderTests.headers)
  func includesNothingElse(_ header: String) throws {
    let folder = URL(fileURLWithPath: Toolbox.headers)
    let file = folder.appendingPathComponent(header)
    for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") where line.hasPrefix("#include") {
      let name = line.split(whereSeparator: { "<>\"".contains($0) }).dropFirst().first.map(String.init) ?? ""
      let isOurs =
        line.contains("\"")
        && FileManager.default.fileExists(atPath: file.deletingLastPathComponent().appendingPathComponent(name).path)
      #expect(isOurs || ["stdint.h", "stddef.h", "stdbool.h"].contains(name), "\(header): \(line)")
    }
  }
}
