import PluginAPI

/// An oracle with two feeds: "power", 12.5 plus or minus 0.1, and "market", which is closed.
final class OracleToy: RawToy {
  private static let table = ConstantTable(
    bp_oracle(
      size: .size(of: bp_oracle.self), flags: 0,
      observe: { pointer, _, feed, token in
        RawToy.with(pointer, as: OracleToy.self) { $0.observe(feed, token) }
      }))

  override func extensionTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.oracle/1") ? OracleToy.table.raw : nil
  }

  private func observe(_ feed: bp_view, _ token: bp_token) {
    guard feed.equals("power") || feed.equals("market") else {
      let failure = Failure(code: BP_NOT_FOUND, "there is no such feed; try power or market")
      return host.fail(token, failure, as: bp_observation.self)
    }
    "toy".withView { source in
      var seen = bp_observation(
        result: .ok(bp_observation.self), state: feed.equals("market") ? BP_ORACLE_CLOSED : BP_ORACLE_OPEN,
        exponent: -1, value: 125, confidence: 1, observed_at_ms: 1_700_000_000_000, sequence: 7, source: source,
        signature: .empty)
      host.complete(token, with: &seen)
    }
  }

  static let entry = RawEntry(kind: "oracle", id: "org.example.toy.oracle") { OracleToy.create($0, $1, $2) }
}
