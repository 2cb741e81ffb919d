/// What a shared library says of itself, read from its bytes and never by running it.
public struct ELFImage: Equatable, Sendable {
  /// ELF `e_machine`: 62 is x86-64, 183 is AArch64.
  public var machine: UInt16
  /// ELF `e_type`: 3 is a shared object.
  public var type: UInt16
  /// A position-independent executable: an `e_type` of 3 that `dlopen` refuses all the same.
  public var isExecutableProgram = false
  /// The JSON of the `Backplane` note, or `nil` when there is no such note. Not validated here.
  public var manifest: [UInt8]?
  /// DT_NEEDED, in file order.
  public var neededLibraries: [String] = []
  /// DF_STATIC_TLS: thread-local storage that must fit into a block of fixed size at load.
  public var usesStaticTLS = false
  /// DT_TEXTREL or DF_TEXTREL: its code would have to be made writable at load.
  public var hasTextRelocations = false
  /// PT_GNU_STACK asks for an executable stack, or is absent, which glibc takes as the same wish.
  public var wantsExecutableStack = true
  /// Whether the asked symbol is defined, a function, and visible to `dlsym`.
  public var exportsEntry = false
  /// The first variable that it defines as STB_GNU_UNIQUE: such a one is shared by all images in the process, so that an
  /// earlier version's value would be used. nil: there is none.
  public var uniqueSymbol: String?
}

/// Why bytes are not a shared library that this kernel can read.
public enum ELFDefect: Error, Equatable, Sendable {
  /// Not an ELF file at all.
  case notELF
  /// The file ends before something that its headers promise: it is still being written or was cut off.
  case incomplete(what: String, endsAtBytes: UInt64, sizeBytes: UInt64)
  /// 32-bit or big-endian.
  case unsupportedFormat(String)
  /// A header contradicts itself or another one.
  case malformed(String)
  /// The note is larger than a manifest may be.
  case manifestTooLarge(sizeBytes: UInt64)
}
