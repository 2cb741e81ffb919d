extension EffectiveValue {
  /// Everything `config show` prints.
  static func list(
    _ settings: ScalarSettings, directories: NodeConfiguration.Directories, slots: ConfigurationMapping,
    order: [SlotConfiguration]
  ) -> [EffectiveValue] {
    scalars(settings, directories) + order.flatMap { slot in values(of: slot, slots) }
  }

  private static func scalars(
    _ settings: ScalarSettings, _ directories: NodeConfiguration.Directories
  ) -> [EffectiveValue] {
    SettingCatalog.all.compactMap { setting in
      let winning = settings.winning(setting)
      let value: ConfigurationValue
      switch setting.key {
      // Paths are shown absolute, as the node uses them.
      case "directories.state": value = .text(directories.state)
      case "directories.staging": value = .text(directories.staging)
      case "directories.runtime": value = .text(directories.runtime)
      case "directories.plugins": value = list(directories.plugins)
      default:
        switch winning?.content {
        case .string(let text)?: value = .text(Redaction.redact(text))
        case .int(let number)?: value = .integer(Int64(number))
        case .bool(let flag)?: value = .boolean(flag)
        case .stringArray(let texts)?: value = list(texts)
        default: return nil
        }
      }
      return EffectiveValue(key: setting.key, value: value.canonicalJSON, origin: winning?.origin ?? .builtIn)
    }
  }

  private static func values(of slot: SlotConfiguration, _ slots: ConfigurationMapping) -> [EffectiveValue] {
    guard let node = slots[slot.name], case .mapping(let mapping) = node.value else { return [] }
    var values: [EffectiveValue] = []
    let prefix = "slots." + slot.name
    ConfigurationValue.mapping(mapping).redacted(key: "").forEachLeaf(pointer: "", origin: node.origin) {
      values.append(
        EffectiveValue(key: prefix + "." + JSONPointer.dotted($0), value: $1.canonicalJSON, origin: $2))
    }
    return values
  }

  private static func list(_ texts: [String]) -> ConfigurationValue {
    .list(texts.map { ConfigurationNode(.text(Redaction.redact($0)), .builtIn) })
  }
}
