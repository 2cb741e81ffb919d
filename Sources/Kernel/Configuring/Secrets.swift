/// Fills placeholders in the texts of slots, so that a password need not stand in the file:
///
/// - `${credential:NAME}`: the file NAME in `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`)
/// - `${file:PATH}`: that file, without its last line break
/// - `${env:NAME}`: an environment variable, which must be set
/// - `${state_directory}`: the state directory, percent-encoded for use in a URL
///
/// `$${` stands for `${` itself. Files are read again at every load, so a reload takes a rotated secret up.
public struct Secrets: Sendable {
  /// Largest file of a secret.
  public static let sizeBytesMax = 64 * 1024

  let environment: [String: String]
  let stateDirectory: String

  init(environment: [String: String], stateDirectory: String) {
    self.environment = environment
    self.stateDirectory = stateDirectory
  }

  /// Why a placeholder cannot be filled; names the placeholder, never a content.
  struct Failure: Error { let message: String }

  /// `text` with its placeholders filled. Relative paths are relative to `base`.
  func resolve(_ text: String, base: String) throws(Failure) -> String {
    guard text.contains("${") else { return text }
    var result = ""
    var rest = text[...]
    while let dollar = rest.firstIndex(of: "$") {
      result += rest[..<dollar]
      rest = rest[dollar...]
      if rest.hasPrefix("$${") {
        result += "${"
        rest = rest.dropFirst(3)
      } else if rest.hasPrefix("${") {
        guard let close = rest.firstIndex(of: "}") else {
          throw Failure(
            message: "A placeholder begun with ${ is not closed. Close it with }, or write $${ for ${ itself.")
        }
        result += try fill(String(rest[rest.index(dollar, offsetBy: 2)..<close]), base: base)
        rest = rest[rest.index(after: close)...]
      } else {
        result += "$"
        rest = rest.dropFirst()
      }
    }
    return result + rest
  }

  /// The secret in a file, without its last line break.
  func readFile(_ path: String, base: String) throws(Failure) -> String {
    let path = ConfigurationFile.absolute(path, base: base)
    let bytes: [UInt8]
    do {
      bytes = try ConfigurationFile.read(path, sizeBytesMax: Self.sizeBytesMax)
    } catch {
      throw Failure(message: "The secret's file \(Redaction.quoted(path)) cannot be read: \(error.reason).")
    }
    guard var text = String(validating: bytes, as: UTF8.self) else {
      throw Failure(message: "The secret's file \(Redaction.quoted(path)) is not valid UTF-8.")
    }
    if text.hasSuffix("\r\n") || text.hasSuffix("\n") { text.removeLast() }
    guard !text.isEmpty else { throw Failure(message: "The secret's file \(Redaction.quoted(path)) is empty.") }
    return text
  }

  /// True for keys like `password_file`, whose value is a file to read the value of `password` from. Not for
  /// `private_key_file` and the like: programs that take keys take them as files.
  static func isFileKey(_ key: String) -> Bool {
    guard key.hasSuffix("_file") else { return false }
    let base = String(key.dropLast("_file".count))
    return base == "url" || (Redaction.isSecretKey(base) && !base.hasSuffix("private_key"))
  }

  private func fill(_ placeholder: String, base: String) throws(Failure) -> String {
    let parts = placeholder.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    switch (parts[0], parts.count) {
    case ("state_directory", 1): return Self.percentEncoded(stateDirectory)
    case ("credential", 2):
      guard let directory = environment["CREDENTIALS_DIRECTORY"], !directory.isEmpty else {
        throw Failure(
          message: "${\(placeholder)} needs CREDENTIALS_DIRECTORY, which is not set. "
            + "Give the service LoadCredential=\(parts[1]):PATH, or use ${file:PATH}.")
      }
      guard !parts[1].isEmpty, !parts[1].contains("/"), parts[1] != ".", parts[1] != ".." else {
        throw Failure(message: "The name in ${\(placeholder)} must be a file name without a slash.")
      }
      return try readFile(directory + "/" + parts[1], base: base)
    case ("file", 2): return try readFile(parts[1], base: base)
    case ("env", 2):
      guard let value = environment[parts[1]], !value.isEmpty else {
        throw Failure(message: "${\(placeholder)} names an environment variable that is not set.")
      }
      return value
    case ("yaml", 2):
      throw Failure(
        message: "${\(placeholder.prefix(80))} gives a mapping, so it must be the whole value of a slot's key.")
    default:
      throw Failure(
        message: "The placeholder ${\(placeholder.prefix(40))} is unknown. Known: ${credential:NAME}, ${file:PATH}, "
          + "${env:NAME}, ${state_directory}, ${yaml:PATH}; write $${ for ${ itself.")
    }
  }

  /// Escapes what would end or change the path of a URL (RFC 3986, section 3.3).
  static func percentEncoded(_ path: String) -> String {
    var text = ""
    for scalar in path.unicodeScalars {
      switch scalar.value {
      case 0...0x20, 0x23, 0x25, 0x3F, 0x7F:
        let digits = String(scalar.value, radix: 16, uppercase: true)
        text += "%" + (digits.count < 2 ? "0" : "") + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}
