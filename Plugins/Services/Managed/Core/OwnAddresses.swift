import Glibc

/// What this node listens on, as the system knows it.
///
/// The host says nothing of listeners that are another instance's, so the sockets of the process are looked at: those of
/// the kernel, also when this plugin runs in a process of its own, whose parent the kernel is.
enum OwnAddresses {
  /// TCP ports that the node's process listens on, in the order of their descriptors.
  static func listeningPorts() -> [Int] {
    let own = link("/proc/self/exe") ?? ""
    let process = own.hasSuffix("/backplane-host") ? "\(getppid())" : "self"
    let inodes = socketInodes(process)
    let listening = ["tcp", "tcp6"].reduce(into: [UInt64: Int]()) { found, table in
      found.merge(listeners(text(of: "/proc/net/\(table)"))) { first, _ in first }
    }
    var ports: [Int] = []
    for inode in inodes {
      if let port = listening[inode], !ports.contains(port) { ports.append(port) }
    }
    return ports
  }

  /// Whether `host` is this machine: a loopback address, or one of its own. Looks the name up, and so blocks.
  static func isOwn(_ host: String) -> Bool {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &found) == 0, let found else { return false }
    defer { freeaddrinfo(found) }
    let own = interfaceAddresses()
    var next: UnsafeMutablePointer<addrinfo>? = found
    var isOwn = false
    while let entry = next {
      guard let address = entry.pointee.ai_addr.flatMap(bytes) else { return false }
      // All of them: a name that also leads elsewhere is not this node.
      isOwn = isLoopback(address) || own.contains(address)
      if !isOwn { return false }
      next = entry.pointee.ai_next
    }
    return isOwn
  }

  /// Of a table of /proc/net: inode to port, of sockets that listen.
  static func listeners(_ table: String) -> [UInt64: Int] {
    var found: [UInt64: Int] = [:]
    for line in table.split(separator: "\n").dropFirst() {
      let fields = line.split(separator: " ", omittingEmptySubsequences: true)
      guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":"),
        let port = Int(fields[1][fields[1].index(after: colon)...], radix: 16), let inode = UInt64(fields[9])
      else { continue }
      found[inode] = port
    }
    return found
  }

  private static func socketInodes(_ process: String) -> [UInt64] {
    guard let handle = opendir("/proc/\(process)/fd") else { return [] }
    defer { closedir(handle) }
    var found: [(descriptor: Int, inode: UInt64)] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard let descriptor = Int(name), let target = link("/proc/\(process)/fd/\(name)"),
        target.hasPrefix("socket:["), let inode = UInt64(target.dropFirst(8).dropLast())
      else { continue }
      found.append((descriptor, inode))
    }
    return found.sorted { $0.descriptor < $1.descriptor }.map(\.inode)
  }

  private static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = buffer.withUnsafeMutableBytes {
      readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }

  private static func text(of path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < 16 << 20 {
      let count = read(descriptor, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// 4 or 16 bytes; an IPv4 address in IPv6's clothes is one of IPv4.
  private static func bytes(_ address: UnsafeMutablePointer<sockaddr>) -> [UInt8]? {
    switch Int32(address.pointee.sa_family) {
    case AF_INET:
      return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        withUnsafeBytes(of: $0.pointee.sin_addr) { Array($0) }
      }
    case AF_INET6:
      let all = address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
        withUnsafeBytes(of: $0.pointee.sin6_addr) { Array($0) }
      }
      return all[..<10].allSatisfy { $0 == 0 } && all[10] == 0xFF && all[11] == 0xFF ? Array(all[12...]) : all
    default: return nil
    }
  }

  private static func isLoopback(_ address: [UInt8]) -> Bool {
    address.count == 4 ? address[0] == 127 : address.dropLast().allSatisfy { $0 == 0 } && address.last == 1
  }

  private static func interfaceAddresses() -> Set<[UInt8]> {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { return [] }
    defer { freeifaddrs(list) }
    var found: Set<[UInt8]> = []
    var next = list
    while let entry = next {
      if let address = entry.pointee.ifa_addr.flatMap(bytes) { found.insert(address) }
      next = entry.pointee.ifa_next
    }
    return found
  }
}
