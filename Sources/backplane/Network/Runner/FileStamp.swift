import Foundation

/// By which a changed file is known.
struct FileStamp: Equatable {
  private let device: UInt64
  private let inode: UInt64
  private let sizeBytes: Int64
  private let modified: [Int]

  init?(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    sizeBytes = Int64(status.st_size)
    modified = [status.st_mtim.tv_sec, status.st_mtim.tv_nsec]
  }
}
