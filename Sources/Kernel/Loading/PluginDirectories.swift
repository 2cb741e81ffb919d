import Glibc

/// Finds plugin files in the configured directories. Looks only at names and inodes: no file is opened.
public struct PluginDirectories: Sendable {
  /// As configured, in the order in which later ones win.
  public let directories: [String]
  /// Of these the ones that need not be there.
  private let optional: Set<String>
  /// At most so many `.so` files in one directory are considered.
  public let filesMax: Int

  public struct Discovery: Sendable {
    /// Directories in the order given, files in byte order of their names.
    public var candidates: [PluginCandidate] = []
    /// Directories and files that cannot be considered. The rest is there all the same.
    public var refusals: [Refusal] = []
    /// What an operator may want to know and need not act on.
    public var notices: [String] = []

    public init() {}
  }

  public init(_ directories: [String], optional: Set<String> = [], filesMax: Int = 1_024) {
    self.directories = directories
    self.optional = optional
    self.filesMax = max(1, filesMax)
  }

  /// Blocks on the filesystem: for the kernel's control thread, never for an event loop.
  public func scan() -> Discovery {
    var discovery = Discovery()
    var seen: Set<String> = []
    for directory in directories {
      guard seen.insert(directory).inserted else { continue }
      scan(directory, into: &discovery)
    }
    return discovery
  }

  private func scan(_ directory: String, into discovery: inout Discovery) {
    let shown = Wording.printable(directory)
    let names: [String]
    switch list(directory) {
    case .failure(.absent) where optional.contains(directory): return
    case .failure(.absent):
      discovery.notices.append("The plugin directory \(shown) does not exist yet; it is looked at when it appears.")
      return
    case .failure(.unreadable(let code)):
      discovery.refusals.append(
        Refusal(
          file: directory, phase: .seen, code: Refusal.Code.directoryUnreadable,
          sentence: "The plugin directory \(shown) cannot be read: \(Wording.system(code)); "
            + "make it a directory that the kernel's user may list, or take it out of the setting plugin_directories."))
      return
    case .success(let listing):
      names = listing.names
      if listing.hasUnreadableNames {
        discovery.notices.append("\(shown) holds a .so file whose name is not UTF-8; it is ignored: rename it.")
      }
    }
    if names.count > filesMax {
      discovery.refusals.append(
        Refusal(
          file: directory, phase: .seen, code: Refusal.Code.directoryTooFull,
          sentence: "The plugin directory \(shown) holds \(names.count) .so files and at most \(filesMax) are "
            + "considered, the first in the order of their names; move the others out."))
    }
    for name in names.prefix(filesMax) {
      do throws(Refusal) {
        discovery.candidates.append(
          try PluginCandidate(path: directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"))
      } catch {
        discovery.refusals.append(error)
      }
    }
  }

  /// `*.so`, and neither hidden nor half-written. (A name that ends in `.so` cannot also end in `~`, `.tmp` or `.part`;
  /// a copy in progress is named `.x.so.part`, `x.so.tmp` or `.x.so.AbC123`, all of which fall to these two rules.)
  public static func isPluginFileName(_ name: String) -> Bool {
    name.hasSuffix(".so") && !name.hasPrefix(".") && name.utf8.count > 3
  }

  private enum ListFailure: Error { case absent, unreadable(Int32) }
  private struct Listing {
    var names: [String] = []
    var hasUnreadableNames = false
  }

  private func list(_ directory: String) -> Result<Listing, ListFailure> {
    guard let stream = opendir(directory) else {
      let code = errno
      return .failure(code == ENOENT ? .absent : .unreadable(code))
    }
    defer { closedir(stream) }
    var listing = Listing()
    while true {
      errno = 0
      guard let entry = readdir(stream) else {
        if errno != 0 { return .failure(.unreadable(errno)) }
        break
      }
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
        (
          String(validating: raw.prefix { $0 != 0 }, as: UTF8.self),
          raw.prefix { $0 != 0 }.suffix(3).elementsEqual(Array(".so".utf8))
        )
      }
      guard let text = name.0 else {
        if name.1 { listing.hasUnreadableNames = true }
        continue
      }
      if Self.isPluginFileName(text) { listing.names.append(text) }
    }
    listing.names.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    return .success(listing)
  }

  /// Settles which file serves a plugin id: the last in the order of discovery, and the others are named in a notice.
  public static func winners(among plugins: [VerifiedPlugin]) -> (plugins: [VerifiedPlugin], notices: [String]) {
    var last: [String: Int] = [:]
    for (index, plugin) in plugins.enumerated() { last[plugin.manifest.id] = index }
    var winners: [VerifiedPlugin] = []
    var notices: [String] = []
    for (index, plugin) in plugins.enumerated() {
      if last[plugin.manifest.id] == index {
        winners.append(plugin)
      } else if let winner = last[plugin.manifest.id].map({ plugins[$0] }) {
        notices.append(
          "\(Wording.printable(winner.sourcePath)) (\(winner.manifest.version)) takes the place of "
            + "\(Wording.printable(plugin.sourcePath)) (\(plugin.manifest.version)): both are the plugin "
            + "\(plugin.manifest.id), and the later directory or name wins.")
      }
    }
    return (winners, notices)
  }
}
