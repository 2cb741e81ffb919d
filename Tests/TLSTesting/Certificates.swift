import Foundation
import NodeTesting

/// An authority of a test's own and what it has signed, made with `openssl`.
public final class Certificates: Sendable {
  public let folder: TemporaryFolder

  public var authority: String { folder.path + "/authority.pem" }

  public init() throws {
    folder = try TemporaryFolder()
    try Self.openssl(
      ["req", "-x509"] + Self.newKey + ["-keyout", "authority.key", "-out", "authority.pem", "-days", "30"]
        + ["-subj", "/CN=Test Authority"], in: folder.path)
  }

  private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

  /// The files of a certificate that is valid for this machine.
  public struct Pair: Sendable {
    public let certificate: String
    public let key: String

    public init(certificate: String, key: String) {
      self.certificate = certificate
      self.key = key
    }
  }

  /// Makes `name.pem` and `name.key`.
  /// - Parameter days: valid from now on; below 0: it expired so long ago.
  public func issue(_ name: String, days: Int = 30) throws -> Pair {
    let path = folder.path
    try Self.openssl(
      ["req"] + Self.newKey + ["-keyout", "\(name).key", "-out", "\(name).csr", "-subj", "/CN=\(name)"], in: path)
    try folder.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n", to: "\(name).ext")
    try Self.openssl(
      ["x509", "-req", "-in", "\(name).csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"]
        + ["-out", "\(name).pem", "-days", "\(days)", "-extfile", "\(name).ext"], in: path)
    chmod("\(path)/\(name).key", 0o600)
    return Pair(certificate: "\(path)/\(name).pem", key: "\(path)/\(name).key")
  }

  /// Puts one pair's files in the place of another's, the certificate first and each by renaming.
  public func put(_ pair: Pair, inPlaceOf other: Pair) throws {
    try replace(other.certificate, by: pair.certificate)
    try replace(other.key, by: pair.key)
  }

  /// Puts a copy of `source` in the place of `file`.
  public func replace(_ file: String, by source: String) throws {
    let part = file + ".part"
    try? FileManager.default.removeItem(atPath: part)
    try FileManager.default.copyItem(atPath: source, toPath: part)
    guard rename(part, file) == 0 else { throw NSError(domain: NSPOSIXErrorDomain, code: Int(errno)) }
  }

  public static func openssl(_ arguments: [String], in directory: String) throws {
    let (_, errors, status) = try CommandLineTool.run("/usr/bin/openssl", arguments, in: directory)
    guard status == 0 else { throw NodeProcess.Failed(description: "openssl \(arguments): \(errors)") }
  }
}
