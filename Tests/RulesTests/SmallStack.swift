import Glibc
import ICUShim

func monotonicNs() -> Int64 { icu_shim_now_ns() }

private final class Errand {
  let body: () -> Void
  init(_ body: @escaping () -> Void) { self.body = body }
}

/// Runs `body` on a thread with 512 KiB of stack, which is what many hosts give one.
func onSmallStack<R>(_ body: () -> R) -> R {
  var result: R?
  withoutActuallyEscaping(body) { body in
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, 512 << 10)
    var thread = pthread_t()
    let errand = Errand { result = body() }
    pthread_create(
      &thread, &attributes,
      { argument in
        Unmanaged<Errand>.fromOpaque(argument!).takeUnretainedValue().body()
        return nil
      }, Unmanaged.passUnretained(errand).toOpaque())
    pthread_join(thread, nil)
    pthread_attr_destroy(&attributes)
    withExtendedLifetime(errand) {}
  }
  return result!
}
