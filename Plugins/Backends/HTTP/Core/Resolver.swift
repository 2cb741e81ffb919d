import Glibc
import PluginAPI

/// Looks a host name up. Blocks: for threads of the plugin's own.
enum Resolver {
  struct Problem: Error {
    var message: String
    /// There is no such name, as opposed to nobody who could say.
    var isPermanent: Bool
  }

  /// Whether `host` needs no looking up.
  static func isAddress(_ host: String) -> Bool {
    var bytes = in6_addr()
    return inet_pton(AF_INET, host, &bytes) == 1 || inet_pton(AF_INET6, host, &bytes) == 1
  }

  /// The addresses of `host`, in the system's order of preference; at least one, at most 16.
  static func addresses(of host: String) throws(Problem) -> [String] {
    if isAddress(host) { return [host] }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_ADDRCONFIG
    var list: UnsafeMutablePointer<addrinfo>?
    let error = getaddrinfo(host, nil, &hints, &list)
    defer { if let list { freeaddrinfo(list) } }
    guard error == 0 else {
      // EAI_NODATA is -5 and stands behind a feature macro: a name without addresses.
      let isPermanent = error == EAI_NONAME || error == -5
      throw Problem(
        message: isPermanent
          ? "the host \(host) of url is not known; correct url, or the name service"
          : "the host \(host) of url could not be looked up (\(String(cString: gai_strerror(error))))",
        isPermanent: isPermanent)
    }
    var found: [String] = []
    var next = list
    while let entry = next, found.count < 16 {
      next = entry.pointee.ai_next
      var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      guard let address = entry.pointee.ai_addr,
        getnameinfo(
          address, entry.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
      else { continue }
      let name = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if !found.contains(name) { found.append(name) }
    }
    if found.isEmpty { throw Problem(message: "the host \(host) of url has no address", isPermanent: true) }
    return found
  }
}
