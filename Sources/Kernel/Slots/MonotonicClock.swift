import Glibc

/// Time, without Foundation.
enum Clock {
  /// CLOCK_MONOTONIC in nanoseconds: what deadlines are measured in.
  @inline(__always)
  static func monotonicNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  /// CLOCK_REALTIME in milliseconds: what records are stamped with.
  @inline(__always)
  static func wallMs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) &* 1000 &+ UInt64(time.tv_nsec) / 1_000_000
  }
}
