/// Why a file, a directory or a whole change was not taken: one sentence for the person who reads it.
///
/// The sentence names the file, says what is wrong with it and what to do about it; it never carries a secret. Nothing
/// about the generation that serves changes when a refusal is made.
public struct Refusal: Error, Equatable, Hashable, Sendable, CustomStringConvertible {
  /// The step of the reload transaction at which it was refused, in the order of the steps.
  public enum Phase: String, Sendable, CaseIterable {
    case seen, settled, staged, verified, probed, loaded, configured, started
  }

  /// Path of the file or directory as the kernel was given it.
  public let file: String
  public let phase: Phase
  /// Stable and for programs, such as `plugin.incomplete`; see `Refusal.Code`. Never reworded once released.
  public let code: String
  /// For people: file, reason and remedy. May be reworded at any time.
  public let sentence: String

  public init(file: String, phase: Phase, code: String, sentence: String) {
    self.file = file
    self.phase = phase
    self.code = code
    self.sentence = sentence
  }

  public var description: String { sentence }

  /// The stable codes. Steps that are not in this folder add theirs in an extension.
  public enum Code {
    public static let directoryUnreadable = "directory.unreadable"
    public static let directoryTooFull = "directory.too-full"
    public static let directoryUnwatched = "directory.unwatched"
    public static let unreadable = "plugin.unreadable"
    public static let notRegularFile = "plugin.not-regular-file"
    public static let tooLarge = "plugin.too-large"
    public static let replacedWhileStaged = "plugin.replaced-while-staged"
    public static let stagingFull = "staging.full"
    public static let stagingReadOnly = "staging.read-only"
    public static let stagingForbidden = "staging.forbidden"
    public static let stagingNoExec = "staging.noexec"
    public static let stagingUnsafe = "staging.unsafe"
    public static let stagingFailed = "staging.failed"
    public static let unsafeOwner = "plugin.unsafe-owner"
    public static let unsafePermissions = "plugin.unsafe-permissions"
    public static let notELF = "plugin.not-elf"
    public static let incomplete = "plugin.incomplete"
    public static let malformed = "plugin.malformed"
    public static let wrongMachine = "plugin.wrong-machine"
    public static let notSharedLibrary = "plugin.not-shared-library"
    public static let manifestMissing = "plugin.manifest-missing"
    public static let manifestTooLarge = "plugin.manifest-too-large"
    public static let manifestInvalid = "plugin.manifest-invalid"
    public static let abiMismatch = "plugin.abi-mismatch"
    public static let symbolMissing = "plugin.symbol-missing"
    public static let staticTLS = "plugin.static-tls"
    public static let textRelocations = "plugin.text-relocations"
    public static let uniqueSymbols = "plugin.unique-symbols"
    public static let executableStack = "plugin.executable-stack"
  }
}
