import FilesShims
import Glibc
import PluginAPI

/// The log's end, and what is done with what a crash left in it.
extension UnitWriter {
  /// Makes everything in place as durable as the log is, and begins the log anew.
  func checkpoint() throws(FilesProblem) {
    guard !gate.isStuck, log.end.offset > 0 else { return }
    if settings.durability != .os, files_sync_filesystem(tree.descriptor) != 0 {
      throw tree.problem(errno, "syncing", [])
    }
    try log.reset(sizeBytesMax: settings.logSizeBytesMax)
  }

  /// As `checkpoint`, for the last time.
  func close() throws(FilesProblem) {
    try checkpoint()
    if !gate.isStuck { try log.empty() }
  }

  /// Puts in place what could not be before.
  func repair() throws(FilesProblem) {
    guard gate.isStuck else { return }
    try gate.changing { () throws(FilesProblem) in
      try putInPlaceFromLog()
      gate.setStuck(false)
    }
  }

  func putInPlaceFromLog() throws(FilesProblem) {
    for (uri, record) in try log.readAll() {
      let path = uri.withUnsafeBufferPointer { RecordPath($0) }
      guard let path else { continue }
      var before = RecordState.absent
      if let directory = try tree.directory(path.directory) {
        before = try tree.state(of: path, in: directory.number)
      }
      if let there = before.current, isLater(there.time, than: record.times) { continue }
      let op = record.op
      var placement = Placement(path: path, before: before, file: nil, staged: 0)
      if !op.isDelete {
        let data = try log.data(of: op)
        let staged = data.withUnsafeBufferPointer { data in
          Result { () throws(FilesProblem) in
            try placer.stage(path, before: before, data, op.content, op.stamp)
          }
        }
        placement = try staged.get()
      }
      try place(placement)
    }
  }

  /// Whether a file was changed by somebody else after every unit that is in the log: a person's edit stays.
  private func isLater(_ time: timespec, than times: [timespec]) -> Bool {
    times.allSatisfy { (time.tv_sec, time.tv_nsec) > ($0.tv_sec, $0.tv_nsec) }
  }
}
