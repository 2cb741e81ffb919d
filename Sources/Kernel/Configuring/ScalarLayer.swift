import Configuration
import Synchronization

/// One layer's scalar settings: texts that were checked against the catalog, each with its origin.
struct ScalarLayer {
  struct Value {
    let content: ConfigContent
    let origin: ConfigurationOrigin
    /// What a relative path in this layer is relative to; absolute.
    let baseDirectory: String
  }

  private(set) var values: [String: Value] = [:]

  mutating func set(_ setting: Setting, _ content: ConfigContent, _ origin: ConfigurationOrigin, base: String) {
    values[setting.key] = Value(content: content, origin: origin, baseDirectory: base)
  }

  var provider: InMemoryProvider {
    InMemoryProvider(
      values: Dictionary(
        uniqueKeysWithValues: values.map { key, value in
          (AbsoluteConfigKey(ConfigKey(key)), ConfigValue(value.content, isSecret: false))
        }))
  }
}

/// The layers laid over one another by swift-configuration, which says what wins and which layer it came from.
final class ScalarSettings {
  private let layers: [ScalarLayer]
  private let reader: ConfigReader
  private let winner = WinningLayer()

  /// `layers` in rising order of precedence; the first is the defaults.
  init(layers: [ScalarLayer]) {
    self.layers = layers
    reader = ConfigReader(providers: layers.reversed().map(\.provider), accessReporter: winner)
  }

  func integer(_ key: String) -> Int { reader.int(forKey: ConfigKey(key)) ?? missing(key) }
  func boolean(_ key: String) -> Bool { reader.bool(forKey: ConfigKey(key)) ?? missing(key) }
  func text(_ key: String) -> String { optionalText(key) ?? missing(key) }
  func optionalText(_ key: String) -> String? { reader.string(forKey: ConfigKey(key)) }
  func texts(_ key: String) -> [String]? { reader.stringArray(forKey: ConfigKey(key)) }

  /// The value that wins for `key` with its origin, whatever its type; nil when no layer has it.
  func winning(_ setting: Setting) -> ScalarLayer.Value? {
    switch setting.kind {
    case .integer: _ = reader.int(forKey: ConfigKey(setting.key))
    case .boolean: _ = reader.bool(forKey: ConfigKey(setting.key))
    case .choice, .text, .path: _ = optionalText(setting.key)
    case .paths, .names: _ = texts(setting.key)
    }
    return winner.index.map { layers[layers.count - 1 - $0].values[setting.key] } ?? nil
  }

  /// A defect of the catalog, not of anything a user wrote: every value was checked when its layer was made.
  private func missing<Value>(_ key: String) -> Value {
    preconditionFailure("The setting \(key) has no default in SettingCatalog.")
  }
}

/// Remembers which provider answered last.
private final class WinningLayer: AccessReporter {
  private let last = Mutex<Int?>(nil)

  var index: Int? { last.withLock { $0 } }

  func report(_ event: AccessEvent) {
    let index = event.providerResults.firstIndex { result in
      if case .success(let lookup) = result.result { lookup.value != nil } else { false }
    }
    last.withLock { $0 = index }
  }
}
