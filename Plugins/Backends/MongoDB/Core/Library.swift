import CMongoC

/// libmongoc in a process that it does not have to itself.
enum Library {
  /// Before anything else of libmongoc, in `start` and wherever a URL is parsed; any number of times.
  ///
  /// `mongoc_init` does its work once in a process, whoever calls it: the library is the system's, and all generations of
  /// this plugin, which are images of their own, share the one copy. For the same reason there is no `mongoc_cleanup`
  /// anywhere: it would take the library from under the other generations, and it cannot be initialised again.
  static func begin() {
    mongoc_init()
    // By itself it writes to the standard error stream, which is the node's; what matters comes back as errors. The same
    // value whoever calls, so it does not matter who is last.
    mongoc_log_set_handler(nil, nil)
  }
}
