import Foundation
import Testing

@testable import Kernel

/// Plays journald: its socket, and what comes in.
private final class FakeJournal {
  let path: String
  private let descriptor: Int32

  init() throws {
    path = NSTemporaryDirectory() + "backplane-journal-\(UUID().uuidString.prefix(8))"
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(status == 0)
    var time = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit {
    close(descriptor)
    unlink(path)
  }

  /// The next entry's fields: from the datagram, or from the file that came with it.
  func next() throws -> [String: String] {
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var control = [UInt64](repeating: 0, count: 8)
    let size = control.count * 8
    let (count, controlSize) = buffer.withUnsafeMutableBytes { data in
      control.withUnsafeMutableBytes { control in
        var part = iovec(iov_base: data.baseAddress, iov_len: data.count)
        return withUnsafeMutablePointer(to: &part) { part in
          var message = msghdr()
          message.msg_iov = part
          message.msg_iovlen = 1
          message.msg_control = control.baseAddress
          message.msg_controllen = size
          return (recvmsg(descriptor, &message, 0), message.msg_controllen)
        }
      }
    }
    try #require(count >= 0, "no entry came")
    guard controlSize > 0 else { return try Self.parse(buffer[0..<count]) }
    #expect(count == 0)
    // A cmsghdr is 16 bytes, and its data the descriptor.
    let file = control.withUnsafeBytes { $0.load(fromByteOffset: 16, as: Int32.self) }
    let handle = FileHandle(fileDescriptor: file, closeOnDealloc: true)
    // F_GET_SEALS; F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE
    #expect(fcntl(file, 1034) & 0xf == 0xf, "journald takes only what cannot change any more")
    try handle.seek(toOffset: 0)
    let bytes = Array(try handle.readToEnd() ?? Data())
    return try Self.parse(bytes[...])
  }

  /// journald's native protocol, as its documentation has it.
  private static func parse(_ bytes: ArraySlice<UInt8>) throws -> [String: String] {
    var rest = bytes
    var fields: [String: String] = [:]
    while !rest.isEmpty {
      let end = try #require(rest.firstIndex(of: 0x0a))
      let line = rest[rest.startIndex..<end]
      rest = rest[(end + 1)...]
      let name: String
      let value: ArraySlice<UInt8>
      if let sign = line.firstIndex(of: UInt8(ascii: "=")) {
        name = String(decoding: line[line.startIndex..<sign], as: UTF8.self)
        value = line[(sign + 1)...]
      } else {
        name = String(decoding: line, as: UTF8.self)
        try #require(rest.count >= 8)
        let size = rest.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        rest = rest.dropFirst(8)
        try #require(rest.count > size)
        value = rest.prefix(size)
        rest = rest.dropFirst(size)
        try #require(rest.removeFirst() == 0x0a)
      }
      #expect(name.utf8.count <= 64 && name.wholeMatch(of: /[A-Z][A-Z0-9_]*/) != nil, "\(name)")
      fields[name] = String(decoding: value, as: UTF8.self)
    }
    return fields
  }
}

/// A log whose lines go into a pipe.
private final class PipedLog {
  let log: KernelLog
  private let pipe = Pipe()

  init(_ format: NodeConfiguration.Log.Format, journal: Journal?) {
    log = KernelLog(
      NodeConfiguration.Log(level: .info, format: format), journal: journal,
      descriptor: pipe.fileHandleForWriting.fileDescriptor)
  }

  /// What has been written so far; call it once.
  func lines() throws -> [String] {
    try pipe.fileHandleForWriting.close()
    let text = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    return text.split(separator: "\n").map(String.init)
  }
}

@Suite struct JournalTests {
  @Test func anEventIsAnEntryWithFields() throws {
    let journal = try FakeJournal()
    let piped = PipedLog(.auto, journal: Journal(path: journal.path))
    piped.log.warning("refused", ["slot": "main", "code": "plugin.probe-crashed", "age_ms": "5", "no name": "a b"])
    let entry = try journal.next()
    #expect(entry["MESSAGE"] == "refused age_ms=5 code=plugin.probe-crashed no name=\"a b\" slot=main")
    #expect(entry["PRIORITY"] == "4")
    #expect(entry["SYSLOG_IDENTIFIER"] == "backplane")
    #expect(entry["BACKPLANE_SLOT"] == "main")
    #expect(entry["BACKPLANE_CODE"] == "plugin.probe-crashed")
    #expect(entry["BACKPLANE_AGE_MS"] == "5")
    #expect(entry["BACKPLANE_NO_NAME"] == "a b")
    #expect(try piped.lines() == [])
  }

  @Test func linesBreaksAndSizesDoNotBreakAnEntry() throws {
    let journal = try FakeJournal()
    let piped = PipedLog(.auto, journal: Journal(path: journal.path))
    piped.log.error("one\nPRIORITY=7", ["reason": "two\nMESSAGE=three\n"])
    let broken = try journal.next()
    #expect(broken["PRIORITY"] == "3")
    #expect(broken["BACKPLANE_REASON"] == "two\nMESSAGE=three\n")
    #expect(broken["MESSAGE"]?.hasPrefix("one\nPRIORITY=7 reason=") == true)

    let large = String(repeating: "x", count: 3 << 20)
    piped.log.info("large", ["detail": large, String(repeating: "k", count: 200): "long name"])
    let entry = try journal.next()
    #expect(entry["BACKPLANE_DETAIL"] == large)
    #expect(entry["BACKPLANE_" + String(repeating: "K", count: 54)] == "long name")
    #expect(try piped.lines() == [])
  }

  @Test func secretsStayOutOfTheJournal() throws {
    let journal = try FakeJournal()
    let piped = PipedLog(.auto, journal: Journal(path: journal.path))
    piped.log.info("opened", ["url": "postgresql://node:swordfish@db/b3nd"])
    let entry = try journal.next()
    #expect(entry["BACKPLANE_URL"]?.contains("db/b3nd") == true)
    #expect(!entry.values.contains { $0.contains("swordfish") })
  }

  @Test func aJournalThatDoesNotTakeItLeavesALineWithItsSeverity() throws {
    let piped = PipedLog(.auto, journal: Journal(path: "/nonexistent/journal"))
    piped.log.warning("refused", ["slot": "main"])
    let lines = try piped.lines()
    #expect(
      lines.count == 1 && lines[0].hasPrefix("<4>") && lines[0].hasSuffix("warning refused slot=main"), "\(lines)")
  }

  /// More than its socket takes: nobody waits for journald, and nothing is lost.
  @Test func aJournalThatIsBehindIsNotWaitedFor() throws {
    let journal = try FakeJournal()
    let piped = PipedLog(.auto, journal: Journal(path: journal.path))
    for number in 0..<600 { piped.log.info("n", ["number": "\(number)"]) }
    let lines = try piped.lines()
    #expect(!lines.isEmpty && lines.allSatisfy { $0.hasPrefix("<6>") })
    var numbers = lines.compactMap { $0.split(separator: "=").last.flatMap { Int($0) } }
    while numbers.count < 600 { numbers.append(Int(try journal.next()["BACKPLANE_NUMBER"] ?? "") ?? -1) }
    #expect(Set(numbers) == Set(0..<600))
  }

  @Test func theThreeFormatsAreKeptUnderJournald() throws {
    let journal = try FakeJournal()
    let expected: [(NodeConfiguration.Log.Format, String)] = [
      (.text, #"warning refused slot=main"#), (.logfmt, #"level=warning msg="refused" slot=main"#),
      (.json, #""level":"warning","msg":"refused","slot":"main"}"#),
    ]
    for (format, ending) in expected {
      for isJournal in [true, false] {
        let piped = PipedLog(format, journal: isJournal ? Journal(path: journal.path) : nil)
        piped.log.warning("refused", ["slot": "main"])
        let lines = try piped.lines()
        #expect(lines.count == 1 && lines[0].hasSuffix(ending), "\(lines)")
        #expect(lines[0].hasPrefix("<4>") == isJournal, "\(lines)")
      }
    }
    let plain = PipedLog(.auto, journal: nil)
    plain.log.warning("refused", ["slot": "main"])
    #expect(try plain.lines().first?.hasSuffix("Z warning refused slot=main") == true)
  }

  @Test func theStreamMustBeTheFileThatTheVariableNames() throws {
    let pipe = Pipe()
    var facts = stat()
    let descriptor = pipe.fileHandleForWriting.fileDescriptor
    #expect(fstat(descriptor, &facts) == 0)
    #expect(Journal.isOurs("\(facts.st_dev):\(facts.st_ino)", descriptor: descriptor))
    for other in [nil, "", ":", "1", "\(facts.st_dev):", "\(facts.st_dev):\(facts.st_ino):1", "\(facts.st_dev):1"] {
      #expect(!Journal.isOurs(other, descriptor: descriptor))
    }
  }
}
