import Glibc

/// What a child wrote when it crashed (CrashReport.c), in words.
struct ChildCrash: Sendable {
  /// Innermost first: `libledger.so+0x1a2b apply`.
  var frames: [String]

  /// - Parameters:
  ///   - text: the lines of the report; whatever the child wrote, so nothing in it is believed.
  ///   - stagedPath: the plugin's file as it was loaded, which is shown as `file`.
  init(_ text: String, stagedPath: String, file: String) {
    var symbols: [String: ELFSymbols] = [:]
    frames = text.split(separator: "\n").prefix(64).compactMap { line in
      let words = line.split(separator: " ", maxSplits: 4, omittingEmptySubsequences: false)
      guard words.count == 5, words[0] == "frame" else { return nil }
      let path = String(words[4])
      let image = path == stagedPath ? file : String(path.split(separator: "/").last ?? "?")
      var symbol = words[3] == "-" ? "" : String(words[3])
      if symbol.isEmpty, path == stagedPath, let offset = UInt64(words[2], radix: 16) {
        // The file may name more than it exports.
        if symbols[path] == nil { symbols[path] = ELFSymbols(path: path) }
        symbol = symbols[path]?.function(at: offset)?.name ?? ""
      }
      let name = symbol.isEmpty ? "" : " " + ChildCrash.demangled(symbol)
      return Wording.printable("\(image)+0x\(words[2])\(name)")
    }
  }

  /// The frames that matter: those of the runtime's own machinery above the plugin's first are left out.
  func top(_ count: Int) -> String { frames.prefix(count).joined(separator: " < ") }

  /// A Swift symbol as people write it; others as they are.
  private static func demangled(_ symbol: String) -> String {
    typealias Demangle =
      @convention(c) (
        UnsafePointer<CChar>?, Int, UnsafeMutablePointer<CChar>?, UnsafeMutablePointer<Int>?, UInt32
      ) -> UnsafeMutablePointer<CChar>?
    guard symbol.hasPrefix("$s"), let address = dlsym(nil, "swift_demangle") else { return symbol }
    guard let text = unsafeBitCast(address, to: Demangle.self)(symbol, symbol.utf8.count, nil, nil, 0) else {
      return symbol
    }
    defer { free(text) }
    return String(cString: text)
  }
}
