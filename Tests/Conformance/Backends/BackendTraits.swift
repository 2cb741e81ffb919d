import PluginAPI

/// What a backend's table says of it: more is not asked.
struct BackendTraits: Sendable {
  var isAtomic: Bool
  var keepsVersions: Bool
  /// Its records are another node's (`BP_BACKEND_REMOTE`).
  var isRemote: Bool

  init(_ flags: UInt32) {
    isAtomic = flags & BP_BACKEND_ATOMIC != 0
    keepsVersions = flags & BP_BACKEND_VERSIONS != 0
    isRemote = flags & BP_BACKEND_REMOTE != 0
  }
}
