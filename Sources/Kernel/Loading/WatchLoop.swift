import Glibc
import SystemShims

/// What the thread of a `DirectoryWatch` runs. Armed by the thread that makes it, then used by its own thread alone.
final class WatchLoop {
  private let descriptors: WatchDescriptors
  private let directories: [String]
  private let quietMs: Int
  private let burstMs: Int
  private let onHint: @Sendable (DirectoryWatch.Hint) -> Void

  /// What a watch is for: the content of a configured directory, or one name on the way to it.
  private enum Role: Equatable {
    case content(of: String)
    case step(name: [UInt8], toward: String)
  }
  private var roles: [Int32: [Role]] = [:]
  private var unwatched: Set<String> = []
  private var hint = DirectoryWatch.Hint()
  private var needsArming = false

  private static let stepMask = UInt32(IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM)
  private static let contentMask =
    stepMask | UInt32(IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

  init(
    descriptors: WatchDescriptors, directories: [String], quietMs: Int, burstMs: Int,
    onHint: @escaping @Sendable (DirectoryWatch.Hint) -> Void
  ) {
    self.descriptors = descriptors
    self.directories = directories
    self.quietMs = quietMs
    self.burstMs = burstMs
    self.onHint = onHint
  }

  func run() {
    while wait(timeoutMs: hint.isEmpty ? -1 : 0) {
      drain()
      let endsAt = Self.nowMs() + Int64(burstMs)
      while !hint.isEmpty {
        let remainingMs = min(Int64(quietMs), endsAt - Self.nowMs())
        guard remainingMs > 0 else { break }
        switch poll(timeoutMs: Int32(remainingMs)) {
        case .events: drain()
        case .stop: return
        case .timeout: deliver()
        }
      }
      deliver()
    }
  }

  // MARK: Watches

  /// Brings the watches in line with the filesystem. Done again whenever a name on the way to a directory changes.
  func arm() {
    needsArming = false
    var wanted: [Int32: [Role]] = [:]
    for directory in directories { arm(directory, into: &wanted) }
    for watch in roles.keys where wanted[watch] == nil { inotify_rm_watch(descriptors.inotify, watch) }
    roles = wanted
  }

  private func arm(_ directory: String, into wanted: inout [Int32: [Role]]) {
    // First the way, then the goal: a step that appears between the two is then either seen or already there.
    var path = directory.hasPrefix("/") ? "/" : "."
    for part in directory.split(separator: "/") where part != "." {
      _ = add(path, Self.stepMask, .step(name: Array(part.utf8), toward: directory), into: &wanted)
      path += path == "/" ? String(part) : "/\(part)"
    }
    let code = add(path, Self.contentMask, .content(of: directory), into: &wanted)
    if code == 0 || code == ENOENT {
      unwatched.remove(directory)
    } else if unwatched.insert(directory).inserted {
      hint.problems.append(DirectoryWatch.unwatchable(directory, code))
    }
  }

  /// Zero, or `errno`. One directory may have several roles; the mask of its one watch is then the sum.
  private func add(_ path: String, _ mask: UInt32, _ role: Role, into wanted: inout [Int32: [Role]]) -> Int32 {
    let flags = UInt32(IN_MASK_ADD) | UInt32(IN_ONLYDIR)
    let watch = inotify_add_watch(descriptors.inotify, path, mask | flags)
    guard watch >= 0 else { return errno }
    if wanted[watch]?.contains(role) != true { wanted[watch, default: []].append(role) }
    return 0
  }

  // MARK: Events

  private func drain() {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 * 1_024, alignment: 8)
    defer { buffer.deallocate() }
    while true {
      let count = read(descriptors.inotify, buffer.baseAddress!, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      take(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
    if needsArming { arm() }
  }

  private func take(_ events: UnsafeRawBufferPointer) {
    var at = 0
    let headerSize = MemoryLayout<inotify_event>.size
    while events.count - at >= headerSize {
      let event = events.loadUnaligned(fromByteOffset: at, as: inotify_event.self)
      let end = at + headerSize + Int(event.len)
      guard end <= events.count else { return }
      take(event, name: events[(at + headerSize)..<end].prefix { $0 != 0 })
      at = end
    }
  }

  private func take(_ event: inotify_event, name: Slice<UnsafeRawBufferPointer>) {
    if event.mask & UInt32(IN_Q_OVERFLOW) != 0 {
      hint.isRescan = true
      needsArming = true
      return
    }
    let ends = UInt32(IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)
    for role in roles[event.wd] ?? [] {
      switch role {
      case .content(let directory):
        if event.mask & ends != 0 { needsArming = true }
        hint.directories.insert(directory)
      case .step(let wanted, let directory):
        if event.mask & ends != 0 {
          needsArming = true
        } else if name.elementsEqual(wanted) {
          needsArming = true
          hint.directories.insert(directory)
        }
      }
    }
    if event.mask & UInt32(IN_IGNORED) != 0 { roles[event.wd] = nil }
  }

  private func deliver() {
    guard !hint.isEmpty else { return }
    let finished = hint
    hint = DirectoryWatch.Hint()
    onHint(finished)
  }

  // MARK: Waiting

  private enum Wake { case events, timeout, stop }

  /// False when the watch is to end.
  private func wait(timeoutMs: Int32) -> Bool { poll(timeoutMs: timeoutMs) != .stop }

  private func poll(timeoutMs: Int32) -> Wake {
    var waited = [
      pollfd(fd: descriptors.stopSignal, events: Int16(POLLIN), revents: 0),
      pollfd(fd: descriptors.inotify, events: Int16(POLLIN), revents: 0),
    ]
    // An interrupted wait counts as events: reading finds none and the loop comes round again.
    let count = Glibc.poll(&waited, nfds_t(waited.count), timeoutMs)
    if count == 0 { return .timeout }
    return count > 0 && waited[0].revents != 0 ? .stop : .events
  }

  private static func nowMs() -> Int64 { Settle.Instant.now().monotonicNs / 1_000_000 }
}
