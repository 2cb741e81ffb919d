import Glibc

/// The bytes of a file, for as long as this lives.
struct FileContent: ~Copyable {
  let bytes: UnsafeRawBufferPointer
  private let isMapped: Bool

  /// - Parameters:
  ///   - file: what to call it in sentences.
  ///   - isPrivate: a file that nobody changes is mapped, so that only what is looked at is read. Any other is read: a
  ///     mapped file that somebody cuts short kills the process with SIGBUS.
  init(_ path: String, named file: String, sizeBytesMax: Int, isPrivate: Bool) throws(Refusal) {
    let shown = Wording.printable(file)
    func refusal(_ code: String, _ text: String) -> Refusal {
      Refusal(file: file, phase: .verified, code: code, sentence: "\(shown) \(text)")
    }
    guard let source = OwnedDescriptor(path: path, flags: O_RDONLY | O_NONBLOCK | O_NOCTTY) else {
      throw refusal(
        Refusal.Code.unreadable, "cannot be opened: \(Wording.system(errno)); check its path and permissions.")
    }
    var facts = stat()
    guard fstat(source.raw, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else {
      throw refusal(Refusal.Code.notRegularFile, "is not a regular file; name a plugin's shared library.")
    }
    guard facts.st_size <= sizeBytesMax else {
      throw refusal(
        Refusal.Code.tooLarge,
        "is \(facts.st_size) bytes and at most \(sizeBytesMax) are taken; strip it, or raise the setting "
          + "plugin_size_bytes_max.")
    }
    let size = Int(facts.st_size)
    if isPrivate, size > 0, let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, source.raw, 0), start != MAP_FAILED {
      bytes = UnsafeRawBufferPointer(start: start, count: size)
      isMapped = true
      return
    }
    let content = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
    var filledBytes = 0
    while filledBytes < size {
      let count = Glibc.read(source.raw, content.baseAddress! + filledBytes, size - filledBytes)
      if count < 0, errno == EINTR { continue }
      if count <= 0 {
        let reason = count == 0 ? "it became shorter meanwhile" : Wording.system(errno)
        content.deallocate()
        throw refusal(Refusal.Code.unreadable, "cannot be read: \(reason); copy it again and check the disk.")
      }
      filledBytes += count
    }
    bytes = UnsafeRawBufferPointer(content)
    isMapped = false
  }

  deinit {
    if isMapped {
      munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
    } else {
      bytes.deallocate()
    }
  }
}
