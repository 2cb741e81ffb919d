import MessageCrypto

/// The file with the values that a compose file names.
public enum EnvironmentFile {
  /// One `NAME='value'`, where `value` goes over several lines: each line break becomes `\n`, as two characters, which
  /// the node reads as one. Within single quotes compose takes everything else as it is; PEM and hexadecimal have no
  /// quote in them.
  /// - Returns: the line, without a line break at its end.
  public static func line(_ name: String, _ value: SecretBytes) -> SecretBytes {
    let head = Array("\(name)='".utf8)
    let breaks = value.withUnsafeBytes { $0.count(where: { $0 == 0x0A }) }
    return SecretBytes(count: head.count + value.count + breaks + 1) { output in
      var place = 0
      func put(_ byte: UInt8) {
        output[place] = byte
        place += 1
      }
      for byte in head { put(byte) }
      value.withUnsafeBytes { value in
        for byte in value {
          guard byte == 0x0A else {
            put(byte)
            continue
          }
          put(UInt8(ascii: "\\"))
          put(UInt8(ascii: "n"))
        }
      }
      put(UInt8(ascii: "'"))
    }
  }
}
