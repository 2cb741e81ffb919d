import Glibc

/// CLOCK_MONOTONIC as the kernel last stored it: a few milliseconds behind, and cheap enough for every request.
@inline(__always)
public func coarseMonotonicNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
  return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// CLOCK_MONOTONIC.
@inline(__always)
public func monotonicNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
