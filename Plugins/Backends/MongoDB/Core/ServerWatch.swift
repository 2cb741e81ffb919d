import BackendSupport
import CMongoC

/// Hears from libmongoc's threads that a server went or came back, before anybody asks it for something.
final class ServerWatch: Sendable {
  private let health: HealthReporter
  private let place: String

  init(health: HealthReporter, place: String) {
    self.health = health
    self.place = place
  }

  /// Must outlive the pool, whose threads call it until they are joined.
  func begin(on pool: OpaquePointer) {
    let callbacks = mongoc_apm_callbacks_new()
    defer { mongoc_apm_callbacks_destroy(callbacks) }
    mongoc_apm_set_topology_changed_cb(callbacks) { event in
      guard let context = mongoc_apm_topology_changed_get_context(event) else { return }
      let isUp = mongoc_topology_description_has_writable_server(mongoc_apm_topology_changed_get_new_description(event))
      let wasUp = mongoc_topology_description_has_writable_server(
        mongoc_apm_topology_changed_get_previous_description(event))
      Unmanaged<ServerWatch>.fromOpaque(context)._withUnsafeGuaranteedRef { $0.changed(isUp: isUp, wasUp: wasUp) }
    }
    mongoc_client_pool_set_apm_callbacks(pool, callbacks, Unmanaged.passUnretained(self).toOpaque())
  }

  private func changed(isUp: Bool, wasUp: Bool) {
    if isUp == wasUp { return }
    if isUp { return health.clear() }
    health.report(
      MongoProblem(
        domain: MONGOC_ERROR_SERVER_SELECTION.rawValue, code: 0, text: "the one that took writes is gone", place: place)
    )
  }
}
