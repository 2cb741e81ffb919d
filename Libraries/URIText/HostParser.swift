/// Hosts: opaque ones, domains and addresses. Source: https://url.spec.whatwg.org/#host-parsing.
enum HostParser {
  /// Writes the host as the URL parser serialises it.
  /// - Returns: false when it is no host.
  static func write(
    _ host: Slice<UnsafeBufferPointer<UInt8>>, isSpecial: Bool, to output: inout ByteWriter
  ) -> Bool {
    if host.first == UInt8(ascii: "[") {
      guard host.last == UInt8(ascii: "]"), let address = IPv6Address(host.dropFirst().dropLast()) else { return false }
      address.write(to: &output)
      return true
    }
    return isSpecial ? writeDomain(host, to: &output) : writeOpaque(host, to: &output)
  }

  private static func writeOpaque(_ host: Slice<UnsafeBufferPointer<UInt8>>, to output: inout ByteWriter) -> Bool {
    let allowed = ByteClass.opaqueHost
    for byte in host {
      if allowed.contains(byte) {
        output.append(byte)
      } else if byte > 0x7E || (byte < 0x20 && byte != 0) {
        output.appendEscaped(byte)
      } else {
        return false
      }
    }
    return true
  }

  private static func writeDomain(_ host: Slice<UnsafeBufferPointer<UInt8>>, to output: inout ByteWriter) -> Bool {
    let allowed = ByteClass.domain
    let start = output.count
    let text = UnsafeBufferPointer(rebasing: host)
    var index = 0
    while index < text.count {
      let decoded = PercentDecoding.byte(in: text, at: index)
      let byte = decoded ?? text[index]
      guard allowed.contains(byte) else { return false }
      output.append(ByteClass.lowered(byte))
      index += decoded == nil ? 1 : 3
    }
    if output.overflowed { return true }
    let domain = output.written[start...]
    guard IPv4Address.endsInNumber(domain) else { return true }
    guard let address = IPv4Address(domain) else { return false }
    output.truncate(to: start)
    address.write(to: &output)
    return true
  }
}
