import Glibc
import SystemShims

/// A plugin whose file has passed every check that can be made without running it.
public struct VerifiedPlugin: Equatable, Sendable {
  public let manifest: Manifest
  /// SHA-256 of the content, 64 lower-case hexadecimal digits.
  public let contentHash: String
  /// What to open. Never the source.
  public let stagedPath: String
  /// What to name in messages.
  public let sourcePath: String
  /// DT_NEEDED, in file order.
  public let neededLibraries: [String]
  /// Sentences; the plugin is taken all the same.
  public let warnings: [String]

  public init(
    manifest: Manifest, contentHash: String, stagedPath: String, sourcePath: String, neededLibraries: [String],
    warnings: [String]
  ) {
    self.manifest = manifest
    self.contentHash = contentHash
    self.stagedPath = stagedPath
    self.sourcePath = sourcePath
    self.neededLibraries = neededLibraries
    self.warnings = warnings
  }
}

/// Judges a staged file without running any of it: constructors run in `dlopen`, before anybody could refuse.
public struct Verify: Sendable {
  /// The ABI of this kernel. Major and minor must both match for as long as the major is 0 (boundary.md).
  public let abi: Manifest.ABI
  /// The one exported function.
  public let entrySymbol: String
  /// ELF `e_machine` of the processor that the kernel runs on.
  public let machine: UInt16
  /// Besides root, the only user whose files are trusted.
  public let trustedUser: UInt32

  #if arch(x86_64)
  public static let hostMachine: UInt16 = 62
  #elseif arch(arm64)
  public static let hostMachine: UInt16 = 183
  #else
  #error("Add the ELF machine number of this processor.")
  #endif

  public init(
    abi: Manifest.ABI, entrySymbol: String = "backplane_plugin_v1", machine: UInt16 = Verify.hostMachine,
    trustedUser: UInt32 = geteuid()
  ) {
    self.abi = abi
    self.entrySymbol = entrySymbol
    self.machine = machine
    self.trustedUser = trustedUser
  }

  /// Blocks on the disk: for the kernel's control thread.
  /// - Throws: a refusal with phase `verified`, which names the dropped file and not its copy.
  public func verify(_ staged: StagedPlugin) throws(Refusal) -> VerifiedPlugin {
    let source = staged.candidate.path
    try checkTrust(staged)
    let (manifest, image) = try inspect(staged.path, named: source, sizeBytesMax: .max, isPrivate: true)
    return VerifiedPlugin(
      manifest: manifest, contentHash: staged.contentHash, stagedPath: staged.path, sourcePath: source,
      neededLibraries: image.neededLibraries, warnings: manifest.warnings + Self.warnings(image))
  }

  /// The checks of the content alone, for `plugin inspect` on a file that is not staged.
  /// - Parameters:
  ///   - path: the file to read; at most `sizeBytesMax` of it.
  ///   - name: what to call it in sentences; `path` when `nil`.
  ///   - isPrivate: nobody changes the file while it is looked at, as nobody does a staged one.
  public func inspect(
    _ path: String, named name: String? = nil, sizeBytesMax: Int = 256 * 1_024 * 1_024, isPrivate: Bool = false
  ) throws(Refusal) -> (manifest: Manifest, image: ELFImage) {
    let file = name ?? path
    let content = try FileContent(path, named: file, sizeBytesMax: sizeBytesMax, isPrivate: isPrivate)
    let image: ELFImage
    do throws(ELFDefect) {
      image = try ELFReader.read(content.bytes, entry: entrySymbol)
    } catch {
      throw refusal(file, defect: error)
    }
    try checkLoadable(image, file)
    guard let json = image.manifest else {
      throw refusal(
        file, Refusal.Code.manifestMissing,
        "carries no manifest, so it is not a Backplane plugin; build it with the manifest as the ELF note "
          + "\"Backplane\" (see docs/manifest.md), or move it out of the plugin directory.")
    }
    let manifest = try Manifest.parse(json, file: file)
    guard manifest.abi == abi else { throw abiRefusal(file, manifest.abi) }
    try checkUnique(image, file)
    guard image.exportsEntry else {
      throw refusal(
        file, Refusal.Code.symbolMissing,
        "does not export the function \(entrySymbol); define it with default visibility and list it in the version "
          + "script that the plugin is linked with.")
    }
    return (manifest, image)
  }

  // MARK: The content

  private func checkLoadable(_ image: ELFImage, _ file: String) throws(Refusal) {
    guard image.machine == machine else {
      throw refusal(
        file, Refusal.Code.wrongMachine,
        "is built for \(Self.machineName(image.machine)) and this kernel runs on \(Self.machineName(machine)); build it "
          + "for \(Self.machineName(machine)).")
    }
    guard image.type == 3, !image.isExecutableProgram else {
      throw refusal(
        file, Refusal.Code.notSharedLibrary,
        "is an ELF file but not a shared library; link it with -shared.")
    }
    if image.usesStaticTLS {
      throw refusal(
        file, Refusal.Code.staticTLS,
        "uses static thread-local storage (DF_STATIC_TLS), of which the process has a small fixed amount; compile it "
          + "without -ftls-model=initial-exec.")
    }
    if image.hasTextRelocations {
      throw refusal(
        file, Refusal.Code.textRelocations,
        "has text relocations (DT_TEXTREL), so its code would have to be made writable; compile all of it with -fPIC.")
    }
    if image.wantsExecutableStack {
      throw refusal(
        file, Refusal.Code.executableStack,
        "asks for an executable stack (PT_GNU_STACK); link it with -z noexecstack and take out nested functions or "
          + "assembly without a .note.GNU-stack section.")
    }
  }

  private func checkUnique(_ image: ELFImage, _ file: String) throws(Refusal) {
    guard let symbol = image.uniqueSymbol else { return }
    throw refusal(
      file, Refusal.Code.uniqueSymbols,
      "defines the variable \(Wording.quoted(symbol)) as STB_GNU_UNIQUE, so that every version loaded later would use the "
        + "first one's; compile it with -fno-gnu-unique, or hide it with the version script that leaves the entry alone."
    )
  }

  private func abiRefusal(_ file: String, _ found: Manifest.ABI) -> Refusal {
    let isNewer = (found.major, found.minor) > (abi.major, abi.minor)
    return refusal(
      file, Refusal.Code.abiMismatch,
      "is built for ABI \(found) and this kernel has ABI \(abi); "
        + (isNewer ? "update the kernel, or build the plugin" : "build the plugin again")
        + " against the headers of ABI \(abi).")
  }

  /// Sentences about a file that is taken all the same.
  static func warnings(_ image: ELFImage) -> [String] {
    var warnings: [String] = []
    for library in image.neededLibraries where !SystemLibraries.contain(library) {
      warnings.append(
        "it needs the library \(Wording.quoted(library)), which is loaded once for all plugins and versions: a newer one "
          + "takes effect at the next start. Link it statically if it is the plugin's own")
    }
    return warnings
  }

  private func refusal(_ file: String, defect: ELFDefect) -> Refusal {
    switch defect {
    case .notELF:
      refusal(
        file, Refusal.Code.notELF, "is not an ELF file; put a plugin's shared library there or move it out.")
    case .incomplete(let what, let end, let size):
      refusal(
        file, Refusal.Code.incomplete,
        size == 0
          ? "is incomplete: it is empty; copy it again under another name and rename it into place."
          : "is incomplete: it has \(size) bytes and \(what) would end at byte \(end); copy it again under another name "
            + "and rename it into place.")
    case .unsupportedFormat(let what):
      refusal(
        file, Refusal.Code.wrongMachine,
        "is \(what) and this kernel runs on \(Self.machineName(machine)); build it for \(Self.machineName(machine)).")
    case .malformed(let what):
      refusal(file, Refusal.Code.malformed, "is not a sound ELF file: \(what); build it again.")
    case .manifestTooLarge(let size): Refusal.manifestTooLarge(file: file, sizeBytes: size)
    }
  }

  private static func machineName(_ machine: UInt16) -> String {
    switch machine {
    case 3: "i386"
    case 40: "32-bit ARM"
    case 62: "x86-64"
    case 183: "AArch64"
    case 243: "RISC-V"
    default: "ELF machine \(machine)"
    }
  }

  // MARK: Owner and permissions

  private func checkTrust(_ staged: StagedPlugin) throws(Refusal) {
    let file = staged.candidate.path
    guard isTrusted(staged.sourceOwner) else {
      throw refusal(
        file, Refusal.Code.unsafeOwner,
        "belongs to user \(staged.sourceOwner), and plugins are taken only from root and the kernel's own user "
          + "(\(trustedUser)); look at where it comes from and run chown on it.")
    }
    guard staged.sourceMode & 0o002 == 0 else {
      throw refusal(
        file, Refusal.Code.unsafePermissions,
        "can be written to by every user (mode \(String(staged.sourceMode & 0o7777, radix: 8))); look at where it comes "
          + "from and run chmod o-w on it.")
    }
    // Where it was dropped and, through symlinks, where it lies.
    for folder in Set([parent(file), parent(staged.candidate.realPath)]).sorted() { try checkFolder(folder, of: file) }
  }

  private func checkFolder(_ folder: String, of file: String) throws(Refusal) {
    guard let descriptor = OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY) else {
      throw refusal(
        file, Refusal.Code.unreadable,
        "lies in \(Wording.printable(folder)), which cannot be opened: \(Wording.system(errno)); check its permissions."
      )
    }
    var facts = stat()
    guard fstat(descriptor.raw, &facts) == 0 else {
      throw refusal(
        file, Refusal.Code.unreadable,
        "lies in \(Wording.printable(folder)), which cannot be looked at: \(Wording.system(errno)); check the disk.")
    }
    guard isTrusted(UInt32(facts.st_uid)) else {
      throw refusal(
        file, Refusal.Code.unsafeOwner,
        "lies in \(Wording.printable(folder)), which belongs to user \(facts.st_uid) and not to root or the kernel's own "
          + "user (\(trustedUser)); run chown on that directory.")
    }
    // The sticky bit keeps others from replacing the file; on a read-only mount (a Kubernetes volume) nobody can.
    guard facts.st_mode & 0o002 != 0, facts.st_mode & 0o1000 == 0 else { return }
    var mount = bp_shim_mount_flags()
    if bp_shim_mount_flags(descriptor.raw, &mount) == 0, mount.read_only { return }
    throw refusal(
      file, Refusal.Code.unsafePermissions,
      "lies in \(Wording.printable(folder)), which every user can write to (mode "
        + "\(String(facts.st_mode & 0o7777, radix: 8))); run chmod o-w on that directory.")
  }

  private func isTrusted(_ owner: UInt32) -> Bool { owner == 0 || owner == trustedUser }

  private func parent(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private func refusal(_ file: String, _ code: String, _ text: String) -> Refusal {
    Refusal(file: file, phase: .verified, code: code, sentence: "\(Wording.printable(file)) \(text)")
  }
}
