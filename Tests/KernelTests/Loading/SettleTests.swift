import Testing

@testable import Kernel

@Suite struct SettleTests {
  private func file(changedMs: Int64, sizeBytes: Int64 = 10, path: String = "/p/x.so") -> PluginCandidate {
    PluginCandidate(
      path: path, realPath: path,
      identity: FileIdentity(
        device: 1, inode: 2, sizeBytes: sizeBytes, modifiedNs: changedMs * 1_000_000, changedNs: changedMs * 1_000_000))
  }

  private func at(_ wallMs: Int64, _ monotonicMs: Int64) -> Settle.Instant {
    .init(wallNs: wallMs * 1_000_000, monotonicNs: monotonicMs * 1_000_000)
  }

  @Test func anOldFileIsSettledAtOnce() {
    var settle = Settle()
    #expect(settle.verdict(file(changedMs: 1_000), at: at(1_250, 0)) == .settled)
    #expect(settle.verdict(file(changedMs: 1_000), at: at(900_000, 0)) == .settled)
  }

  @Test func aYoungFileWaitsForWhatIsLeft() {
    var settle = Settle()
    #expect(settle.verdict(file(changedMs: 1_000), at: at(1_100, 0)) == .wait(milliseconds: 150))
    #expect(settle.verdict(file(changedMs: 1_000), at: at(1_249, 149)) == .wait(milliseconds: 1))
    #expect(settle.verdict(file(changedMs: 1_000), at: at(1_250, 150)) == .settled)
  }

  @Test func eachChangeBeginsAgain() {
    var settle = Settle()
    for step in 0..<20 {
      let now = Int64(1_000 + step * 200)
      let growing = file(changedMs: now, sizeBytes: Int64(step))
      #expect(settle.verdict(growing, at: at(now, now)) == .wait(milliseconds: 250))
    }
  }

  @Test func aTimeStampOfTheFutureWaitsForOneWindow() {
    var settle = Settle()
    let ahead = file(changedMs: 9_999_999)
    #expect(settle.verdict(ahead, at: at(1_000, 50)) == .wait(milliseconds: 250))
    #expect(settle.verdict(ahead, at: at(1_100, 150)) == .wait(milliseconds: 150))
    // The wall clock is set back meanwhile; only the monotonic one counts.
    #expect(settle.verdict(ahead, at: at(10, 299)) == .wait(milliseconds: 1))
    #expect(settle.verdict(ahead, at: at(10, 300)) == .settled)
  }

  @Test func extremeTimeStampsDoNotTrap() {
    var settle = Settle()
    for changed in [Int64.min, .max, 0] {
      let odd = PluginCandidate(
        path: "/x", realPath: "/x",
        identity: .init(device: 1, inode: 1, sizeBytes: 0, modifiedNs: changed, changedNs: changed))
      _ = settle.verdict(odd, at: at(1_000, 1_000))
      #expect(settle.verdict(odd, at: at(1_000, 2_000)) == .settled)
    }
  }

  @Test func aWindowOfZeroSettlesEverything() {
    var settle = Settle(windowMs: 0)
    #expect(settle.verdict(file(changedMs: 5_000), at: at(1_000, 0)) == .settled)
    #expect(Settle(windowMs: -5).windowMs == 0)
    #expect(Settle(windowMs: .max).windowMs == 60_000)
  }

  @Test func forgottenFilesBeginAgain() {
    var settle = Settle()
    let ahead = file(changedMs: 9_999_999)
    _ = settle.verdict(ahead, at: at(0, 0))
    settle.keepOnly([])
    #expect(settle.verdict(ahead, at: at(0, 200)) == .wait(milliseconds: 250))
    settle.keepOnly([ahead.path])
    #expect(settle.verdict(ahead, at: at(0, 400)) == .wait(milliseconds: 50))
  }
}
