/// Libraries that plugins may share with everybody in the process: the system's and the language runtimes'. Any other may
/// be a plugin's own, and the loader takes the first of a name for all that come later.
enum SystemLibraries {
  /// Names up to the version: `libc.so.6` is `libc`.
  private static let names: Set<String> = [
    "libc", "libm", "libdl", "libpthread", "librt", "libresolv", "libutil", "libgcc_s", "libstdc++", "libatomic",
    "libBlocksRuntime", "libdispatch", "libFoundation", "libFoundationEssentials", "libFoundationInternationalization",
    "libFoundationNetworking", "lib_FoundationICU", "libsqlite3", "libpq", "libmongoc", "libmongoc-1.0", "libbson-1.0",
    "libsodium", "libssl", "libcrypto", "libz", "libzstd", "libcurl", "libxml2",
  ]
  private static let prefixes = ["ld-linux", "ld-musl", "libswift", "lib_swift", "lib_Swift", "lib_String", "libicu"]

  static func contain(_ library: String) -> Bool {
    guard !library.contains("/"), let end = library.firstRange(of: ".so")?.lowerBound else { return false }
    let name = String(library[..<end])
    return names.contains(name) || prefixes.contains { name.hasPrefix($0) }
  }
}
