import Configuration

extension ScalarLayer {
  /// The built-in values.
  static func defaults(workingDirectory: String) -> ScalarLayer {
    var layer = ScalarLayer()
    var problems = ProblemList()
    for setting in SettingCatalog.all {
      guard let text = setting.defaultText else { continue }
      guard let content = SettingReader.read(setting, text: text, .builtIn, problems: &problems) else {
        preconditionFailure("The default of \(setting.key) in SettingCatalog is refused: \(problems.problems).")
      }
      layer.set(setting, content, .builtIn, base: workingDirectory)
    }
    return layer
  }

  /// The settings of one file; its slots are laid over `slots`.
  static func file(
    _ document: ConfigurationFiles.Document, base: String, slots: inout SlotLayers, problems: inout ProblemList
  ) -> ScalarLayer {
    var layer = ScalarLayer()
    for entry in document.mapping.entries {
      if entry.key == "slots" {
        slots.add(entry.node, problems: &problems)
        continue
      }
      let pointer = JSONPointer.appending(entry.key, to: "")
      guard SettingCatalog.sections.contains(entry.key) else {
        problems.add(entry.keyOrigin, pointer: pointer, unknown(entry.key, in: ""))
        continue
      }
      switch entry.node.value {
      case .null: continue
      case .mapping(let section):
        for item in section.entries {
          let key = "\(entry.key).\(item.key)"
          guard let setting = SettingCatalog.byKey[key], !item.key.contains(".") else {
            problems.add(
              item.keyOrigin, pointer: JSONPointer.appending(item.key, to: pointer),
              unknown(item.key, in: entry.key))
            continue
          }
          if let content = SettingReader.read(setting, item.node, problems: &problems) {
            layer.set(setting, content, item.node.origin, base: base)
          }
        }
      default:
        problems.add(
          entry.node.origin, pointer: pointer, "The value must be a mapping, but is \(entry.node.value.found).")
      }
    }
    return layer
  }

  /// The settings of the environment. Empty means not set, as the reference node has it.
  static func environment(
    _ environment: [String: String], workingDirectory: String, problems: inout ProblemList,
    warnings: inout [ConfigurationProblem]
  ) -> ScalarLayer {
    var layer = ScalarLayer()
    for setting in SettingCatalog.all {
      guard let name = setting.environmentNames.first(where: { !(environment[$0] ?? "").isEmpty }),
        var text = environment[name]
      else { continue }
      // systemd gives several directories separated by colons when the unit names several; the first is ours.
      if !name.hasPrefix("BACKPLANE_") { text = String(text.prefix { $0 != ":" }) }
      let origin = ConfigurationOrigin.environment(name: name)
      if let content = SettingReader.read(setting, text: text, origin, problems: &problems) {
        layer.set(setting, content, origin, base: workingDirectory)
      }
    }
    let known = SettingCatalog.all.flatMap(\.environmentNames) + SettingCatalog.otherEnvironmentNames
    for name in environment.keys.sorted() where name.hasPrefix("BACKPLANE_") && !known.contains(name) {
      let suggestion = Suggestion.nearest(to: name, among: known).map { " Did you mean \($0)?" } ?? ""
      warnings.append(
        ConfigurationProblem(.environment(name: name), "The variable is not one this program knows.\(suggestion)"))
    }
    return layer
  }

  /// The settings of the command line.
  static func flags(
    _ flags: ConfigurationFlags, workingDirectory: String, problems: inout ProblemList
  ) -> ScalarLayer {
    var layer = ScalarLayer()
    func set(_ key: String, _ text: String, _ flag: String) {
      guard let setting = SettingCatalog.byKey[key] else {
        problems.add(
          .flag(name: flag),
          "There is no setting \(Redaction.quoted(key)).\(Suggestion.sentence(for: key, among: SettingCatalog.all.map(\.key)))"
        )
        return
      }
      let origin = ConfigurationOrigin.flag(name: flag)
      if let content = SettingReader.read(setting, text: text, origin, problems: &problems) {
        layer.set(setting, content, origin, base: workingDirectory)
      }
    }
    for assignment in flags.settings {
      guard let equals = assignment.firstIndex(of: "=") else {
        problems.add(.flag(name: "--set"), "Write --set KEY=VALUE; \(Redaction.quoted(assignment)) has no =.")
        continue
      }
      set(String(assignment[..<equals]), String(assignment[assignment.index(after: equals)...]), "--set")
    }
    if let text = flags.stateDirectory { set("directories.state", text, "--state") }
    if let text = flags.runtimeDirectory { set("directories.runtime", text, "--runtime") }
    if let text = flags.logLevel { set("log.level", text, "--log-level") }
    if let text = flags.logFormat { set("log.format", text, "--log-format") }
    if !flags.pluginDirectories.isEmpty, let setting = SettingCatalog.byKey["directories.plugins"] {
      layer.set(
        setting, .stringArray(flags.pluginDirectories), .flag(name: "--plugins"), base: workingDirectory)
    }
    return layer
  }

  /// The error of an unknown key, with the nearest known one; a key that belongs to another section says so.
  private static func unknown(_ key: String, in section: String) -> String {
    let here =
      section.isEmpty
      ? SettingCatalog.sections.sorted() + ["slots"]
      : SettingCatalog.all.filter { $0.key.hasPrefix(section + ".") }.map {
        String($0.key.dropFirst(section.count + 1))
      }
    let elsewhere = SettingCatalog.all.first { $0.key.hasSuffix("." + key) }
    let hint = elsewhere.map { " It belongs in \($0.key)." } ?? Suggestion.sentence(for: key, among: here)
    return "The key \(Redaction.quoted(key)) is unknown here.\(hint)"
  }
}
