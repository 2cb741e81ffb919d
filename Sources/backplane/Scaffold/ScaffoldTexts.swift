/// What a new plugin's README says about its kind.
struct ScaffoldTexts {
  let kind: PluginNew.Kind
  let name: PluginName
  let handsStateOver: Bool

  /// Ends a sentence that begins "A backend in C: ".
  var what: String {
    switch kind {
    case .backend:
      handsStateOver
        ? "records are kept in memory, and handed over when it is replaced."
        : "records are kept in memory and die with the instance."
    case .schema: "a record below `\(name.slug)://open` is written once."
    case .transport: "lines over TCP, `GET URI` and `PUT URI DATA`, one answer for each."
    case .service: "a sign of life, written to `mutable://open/\(name.slug)` every ten seconds and when the node ends."
    }
  }

  /// The keys of its slot, indented for YAML.
  var slot: String {
    switch kind {
    case .backend: "    kind: backend\n    url: \(name.slug)://\n    order: 10"
    case .schema: "    kind: schema\n    plugin: org.example.\(name.slug)"
    case .transport: "    kind: transport\n    plugin: org.example.\(name.slug)\n    port: 9950"
    case .service: "    kind: service\n    plugin: org.example.\(name.slug)\n    interval_ms: 10000"
    }
  }

  var notes: String {
    switch kind {
    case .backend where handsStateOver:
      """
      Replacing it hands the records to the new version (`state_version` in the manifest, `HandsOverState` in the code).
      Removing it loses them: the manifest says so (`volatile`), and the node refuses until it is told
      `backplane reload --lose-state`. A node whose files name a backend no longer makes the SQLite one of its own
      accord: name that too if you want both.
      """
    case .backend:
      """
      Replacing or removing it loses what is in memory. The manifest says so (`volatile`), and the node refuses until it is
      told `backplane reload --lose-state`. A node whose files name a backend no longer makes the SQLite one of its own
      accord: name that too if you want both.
      """
    case .schema:
      """
      A node whose files name a schema no longer has the permissive one of its own accord: add `schema: {}` under `slots`
      if you want both. `SCHEMA_MODULE=/path/to/\(name.slug).so` makes this the only one.
      """
    case .transport:
      """
      The port is the kernel's to bind: it lends the socket, so that no connection is refused while a new version takes
      over. A node whose files name a transport no longer has the HTTP one of its own accord: add `http: {}` under `slots`
      if you want both.
      """
    case .service:
      """
      What it writes goes the way of every message: the node's schemas judge it, and every backend gets it. `backplane
      status` shows what it says of its health.
      """
    }
  }
}
