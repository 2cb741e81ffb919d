import Glibc
import SystemShims

/// How the node died, and in which plugin: what the marks of the run before say.
public struct CrashReport: Codable, Sendable, Equatable {
  /// One place in the code, innermost first.
  public struct Frame: Codable, Sendable, Equatable {
    /// The file's name, without its folder; empty when no image holds the address.
    public var image: String
    /// The address within the file.
    public var offset: UInt64
    /// The function, where the file names it; else empty.
    public var symbol: String

    public var text: String {
      let place = image.isEmpty ? "0x\(String(offset, radix: 16))" : "\(image)+0x\(String(offset, radix: 16))"
      return symbol.isEmpty ? place : "\(place) (\(symbol))"
    }
  }

  /// UTC, ISO 8601.
  public var at: String
  /// `SIGSEGV`, …
  public var signal: String
  /// Empty when no plugin can be named; then it was the kernel, or a library of the system's.
  public var plugin: String
  public var version: String
  /// SHA-256 of the plugin's file.
  public var content: String
  /// Empty when the thread was the plugin's own.
  public var slot: String
  /// The generation whose lease the call held, or the one that first published the instance; 0 when unknown.
  public var generation: UInt64
  /// What the kernel had called (`read`, `stop`, …); empty when the thread was the plugin's own.
  public var call: String
  public var thread: String
  /// Who had asked, when the call was for a client that the transport names.
  public var peer: String
  /// W3C trace id, 32 hexadecimal digits; empty when the call had none.
  public var trace: String
  public var frames: [Frame]

  enum CodingKeys: String, CodingKey {
    case at, signal, plugin, version, content, slot, generation, call, thread, peer, trace, frames
  }

  /// One sentence: who it was, in which call, where.
  public var sentence: String {
    var text = "the node died of \(signal) at \(at)"
    if plugin.isEmpty {
      text += " outside of every plugin (thread '\(thread)')"
    } else {
      text += " in the plugin \(plugin) \(version)"
      if !slot.isEmpty { text += ", slot '\(slot)'" }
      if generation != 0 { text += ", generation \(generation)" }
      text += call.isEmpty ? ", on a thread of its own ('\(thread)')" : ", call \(call)"
      if !peer.isEmpty { text += ", for \(peer)" }
      if !trace.isEmpty { text += ", trace \(trace)" }
    }
    return frames.isEmpty ? text : text + "; at " + place
  }

  /// The frames from the innermost one to where the kernel had called.
  var place: String {
    let kernel = frames.firstIndex { $0.image == CrashReport.kernelImage } ?? frames.count
    return frames.prefix(min(6, max(1, kernel))).map(\.text).joined(separator: " < ")
  }

  /// The node's executable, as frames call it.
  static let kernelImage = "backplane"
}

extension CrashReport {
  /// What the bytes of a marks file say, or nil when they hold no complete crash.
  init?(marks bytes: UnsafeRawBufferPointer) {
    let header = bytes.load(as: bp_marks_header.self)
    var crash = bytes.load(fromByteOffset: Int(BP_MARKS_CRASH_OFFSET), as: bp_crash.self)
    guard crash.state == UInt32(BP_CRASH_COMPLETE), crash.process == header.process,
      crash.checksum == bp_crash_checksum(&crash), crash.frames_count <= UInt32(BP_MARKS_FRAMES_MAX),
      crash.candidates_count <= UInt32(BP_MARKS_CANDIDATES_MAX)
    else { return nil }
    let images = CrashReport.images(bytes)
    func image(_ address: UInt64) -> bp_mark_image? {
      images.first { address >= $0.start && address < $0.end }
    }
    func pluginImage(_ address: UInt64) -> bp_mark_image? {
      image(address).flatMap { MarkText.read($0.plugin).isEmpty ? nil : $0 }
    }
    let addresses = CrashReport.words(crash.frames, crash.frames_count)
    let candidates = CrashReport.words(crash.candidates, crash.candidates_count)
    let marked = CrashReport.instance(bytes, handle: crash.mark.word & (1 << 56 - 1))
    let call = MarkedCall(rawValue: UInt8(truncatingIfNeeded: crash.mark.word >> 56))

    /// The innermost code that is a plugin's or the kernel's; nil when the kernel's comes first, or neither.
    func innermost(_ addresses: [UInt64]) -> (image: bp_mark_image?, isKnown: Bool) {
      for address in addresses {
        if let image = pluginImage(address) { return (image, true) }
        if let image = image(address), image.start == images.first?.start { return (nil, true) }
      }
      return (nil, false)
    }
    // The code that ran is the best witness, then the kernel's own mark, then what had called, then the stack's words:
    // in that order. A crash in the kernel that no mark explains is the kernel's, whoever had called it.
    let running = addresses.first.flatMap(pluginImage)
    let calling = innermost(addresses.enumerated().map { $0 == 0 ? $1 : $1 &- 1 })
    let lying = calling.isKnown || crash.mark.word != 0 ? nil : innermost(candidates).image
    let isOfMark = running.map { MarkText.read($0.content) == marked.map { MarkText.read($0.content) } } ?? true

    at = Timestamp.text(ms: crash.wall_ms)
    signal = CrashReport.name(ofSignal: crash.signal)
    thread = MarkText.read(crash.thread_name)
    if let marked, let call, isOfMark {
      plugin = MarkText.read(marked.plugin)
      version = MarkText.read(marked.version)
      content = MarkText.read(marked.content)
      slot = MarkText.read(marked.slot)
      generation = crash.mark.generation != 0 ? crash.mark.generation : marked.generation
      self.call = call.name
      peer = MarkText.read(crash.peer)
      let isTraced = crash.trace_id_high != 0 || crash.trace_id_low != 0
      trace =
        isTraced
        ? CrashReport.hexadecimal(crash.trace_id_high) + CrashReport.hexadecimal(crash.trace_id_low) : ""
    } else {
      let image = running ?? (crash.mark.word == 0 ? calling.image : nil) ?? lying
      plugin = image.map { MarkText.read($0.plugin) } ?? ""
      version = image.map { MarkText.read($0.version) } ?? ""
      content = image.map { MarkText.read($0.content) } ?? ""
      (slot, generation, self.call, peer, trace) = ("", 0, "", "", "")
    }
    var symbols: [String: ELFSymbols] = [:]
    // Where frame pointers lead nowhere (the system's library has none), what lies on the stack has to do.
    let isLost = !calling.isKnown
    let shown = isLost ? addresses.prefix(1) + candidates : addresses
    frames = shown.enumerated().map { index, address in
      guard let image = image(address) else { return Frame(image: "", offset: address, symbol: "") }
      let path = MarkText.read(image.path)
      let offset = address &- image.bias
      if symbols[path] == nil { symbols[path] = ELFSymbols(path: path) }
      // A return address may lie behind the last instruction of its function.
      let symbol = symbols[path]?.function(at: index == 0 ? offset : offset &- 1)?.name ?? ""
      return Frame(image: String(path.split(separator: "/").last ?? ""), offset: offset, symbol: symbol)
    }
    for index in frames.indices {
      // A staged file is named by its content, which nobody knows by sight.
      guard let image = image(shown[index]), case let id = MarkText.read(image.plugin), !id.isEmpty else { continue }
      frames[index].image = id
    }
  }

  private static func images(_ bytes: UnsafeRawBufferPointer) -> [bp_mark_image] {
    let stride = MemoryLayout<bp_mark_image>.stride
    return (0..<Int(BP_MARKS_IMAGES_MAX)).lazy
      .map { bytes.load(fromByteOffset: Int(BP_MARKS_IMAGES_OFFSET) + $0 * stride, as: bp_mark_image.self) }
      .prefix { $0.start != 0 }.map { $0 }
  }

  private static func instance(_ bytes: UnsafeRawBufferPointer, handle: UInt64) -> bp_mark_instance? {
    guard handle != 0 else { return nil }
    let stride = MemoryLayout<bp_mark_instance>.stride
    return (0..<Int(BP_MARKS_INSTANCES_MAX)).lazy
      .map { bytes.load(fromByteOffset: Int(BP_MARKS_INSTANCES_OFFSET) + $0 * stride, as: bp_mark_instance.self) }
      .first { $0.handle == handle }
  }

  private static func words<Field>(_ field: Field, _ count: UInt32) -> [UInt64] {
    withUnsafeBytes(of: field) { Array($0.bindMemory(to: UInt64.self).prefix(Int(count))) }
  }

  private static func hexadecimal(_ word: UInt64) -> String {
    let digits = String(word, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  static func name(ofSignal number: Int32) -> String {
    switch number {
    case SIGSEGV: "SIGSEGV"
    case SIGBUS: "SIGBUS"
    case SIGILL: "SIGILL"
    case SIGTRAP: "SIGTRAP"
    case SIGFPE: "SIGFPE"
    case SIGABRT: "SIGABRT"
    case SIGSYS: "SIGSYS"
    case SIGKILL: "SIGKILL"
    case SIGTERM: "SIGTERM"
    default: "signal \(number)"
    }
  }
}
