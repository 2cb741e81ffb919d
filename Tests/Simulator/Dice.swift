#if SIMULATION
import SimulatedSystem

/// Chance, all of it from the seed.
enum Dice {
  /// 0 ..< limit.
  static func below(_ limit: Int) -> Int { Int(simulation_random() % UInt64(limit)) }
  static func percent(_ percent: Int) -> Bool { below(100) < percent }
  static func pick<Value>(_ values: [Value]) -> Value { values[below(values.count)] }

  /// One of several, each as often as its weight says.
  static func weighted<Value>(_ values: [(weight: Int, value: Value)]) -> Value {
    var place = below(values.reduce(0) { $0 + $1.weight })
    for (weight, value) in values {
      if place < weight { return value }
      place -= weight
    }
    return values[values.count - 1].value
  }

  /// A length of time of any magnitude, in nanoseconds.
  static func time(msMax: Int) -> UInt64 {
    let most = UInt64(msMax) * 1_000_000
    return min(most, (UInt64(1000) << UInt64(below(20))) + UInt64(below(100_000)))
  }
}

/// Lets others go on: what every step of the world and of a plugin does.
enum Pause {
  /// A few turns of others, and now and then some time.
  static func some(_ node: SimulatedNode) {
    for _ in 0..<Dice.below(node.style.turnsMax) { simulation_yield() }
    if Dice.percent(node.style.sleepPercent) { simulation_sleep(Dice.time(msMax: 50)) }
  }

  static func turn() { simulation_yield() }
}
#endif
