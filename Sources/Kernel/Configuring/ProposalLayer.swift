/// Lays what services have proposed over the slots of files, environment and flags: the last layer.
///
/// Several proposals merge in the order of their slots. What two of them say differently is refused: which of them is
/// right is nothing to guess.
struct ProposalLayer {
  private let documents: [ProposalDocument]
  private let secrets: Secrets
  /// What relative paths in secrets' placeholders are relative to: of files, of others.
  private let base: (ConfigurationOrigin) -> String
  /// The state directory of a slot.
  private let stateDirectory: (String) -> String
  private let pluginDirectories: [String]

  /// A backend of a proposal on its way to its slot.
  private struct Entry {
    let document: Int
    let node: ConfigurationNode
    let mapping: ConfigurationMapping
    let url: String
    let scheme: String
    var name: String?
  }

  init(
    _ documents: [ProposalDocument], secrets: Secrets, base: @escaping (ConfigurationOrigin) -> String,
    stateDirectory: @escaping (String) -> String, pluginDirectories: [String]
  ) {
    self.documents = documents
    self.secrets = secrets
    self.base = base
    self.stateDirectory = stateDirectory
    self.pluginDirectories = pluginDirectories
  }

  /// The slots that may propose, in the order in which their proposals count.
  static func proposingSlots(_ slots: SlotLayers) -> [String] {
    let names = slots.names(ofKind: ProposalDocument.serviceKind).filter {
      if case .boolean(true)? = slots.value("may_propose", of: $0)?.value { true } else { false }
    }
    func order(_ name: String) -> Int64 {
      if case .integer(let order)? = slots.value("order", of: name)?.value { order } else { 0 }
    }
    return names.sorted { (order($0), $0) < (order($1), $1) }
  }

  /// The settings of the section `node`.
  func settings(problems: inout ProblemList) -> ScalarLayer {
    var layer = ScalarLayer()
    for document in documents {
      for entry in document.node.entries {
        guard let setting = SettingCatalog.byKey["node.\(entry.key)"],
          let content = SettingReader.read(setting, entry.node, problems: &problems)
        else { continue }
        layer.set(setting, content, entry.node.origin, base: "/")
      }
    }
    return layer
  }

  /// Lays them over the slots. Answers the proposals with the slots that their backends have got.
  ///
  /// - Parameter names: the setting `node.backends`, when it orders the backends of the lower layers.
  func lay(over slots: inout SlotLayers, names: ScalarLayer.Value?, problems: inout ProblemList) -> [Proposal] {
    let before = problems.problems.count
    for document in documents { check(document, slots, problems: &problems) }
    refuseConflicts(problems: &problems)
    guard problems.problems.count == before else { return documents.map(\.proposal) }

    let lower = slots
    var entries = read(problems: &problems)
    match(&entries, lower)
    layBackends(entries, lower, over: &slots, problems: &problems)
    laySlots(entries, over: &slots, problems: &problems)
    order(entries, lower, names, &slots)
    return documents.indices.map { index in
      var proposal = documents[index].proposal
      proposal.backends = entries.filter { $0.document == index }.map { Proposal.Backend(slot: $0.name!, url: $0.url) }
      return proposal
    }
  }

  // MARK: What may not be

  private func check(_ document: ProposalDocument, _ slots: SlotLayers, problems: inout ProblemList) {
    let reach = ProposalReach(
      stateDirectory: stateDirectory(document.slot), pluginDirectories: pluginDirectories)
    let services = slots.names(ofKind: ProposalDocument.serviceKind)
    for entry in document.slots.entries where services.contains(entry.key) {
      problems.add(
        entry.keyOrigin, "The slot \(entry.key) is a service, and those are the operator's alone.")
    }
    for entry in document.slots.entries {
      if case .mapping(let slot) = entry.node.value { reach.check(slot, problems: &problems) }
    }
    for node in document.backends {
      if case .mapping(let slot) = node.value { reach.check(slot, problems: &problems) }
    }
  }

  private func refuseConflicts(problems: inout ProblemList) {
    for (index, later) in documents.enumerated() {
      for earlier in documents[..<index] {
        refuseConflicts(earlier.node, later.node, earlier, problems: &problems)
        refuseConflicts(earlier.slots, later.slots, earlier, problems: &problems)
      }
    }
  }

  private func refuseConflicts(
    _ first: ConfigurationMapping, _ second: ConfigurationMapping, _ earlier: ProposalDocument, except: String? = nil,
    problems: inout ProblemList
  ) {
    for entry in second.entries where entry.key != except {
      guard let other = first[entry.key] else { continue }
      if case .mapping(let mine) = other.value, case .mapping(let theirs) = entry.node.value {
        refuseConflicts(mine, theirs, earlier, problems: &problems)
      } else if other.value.canonicalJSON != entry.node.value.canonicalJSON {
        problems.add(
          entry.node.origin,
          "The \(other.origin) says otherwise. Two slots may not propose different values for one thing.")
      }
    }
  }

  // MARK: Backends

  private func read(problems: inout ProblemList) -> [Entry] {
    var entries: [Entry] = []
    for (index, document) in documents.enumerated() {
      for node in document.backends {
        guard case .mapping(let mapping) = node.value, let place = mapping["url"] else { continue }
        guard case .text(let text) = place.value, let url = resolved(text, place.origin),
          let scheme = BackendURLs.scheme(of: url)
        else {
          problems.add(
            place.origin, "The value must be a URL (scheme://…), such as memory://, but is \(place.value.foundForURL).")
          continue
        }
        entries.append(Entry(document: index, node: node, mapping: mapping, url: url, scheme: scheme))
      }
    }
    return entries
  }

  /// A URL as it will be; nil when a placeholder in it cannot be filled.
  private func resolved(_ text: String, _ origin: ConfigurationOrigin) -> String? {
    guard let url = try? secrets.resolve(text, base: base(origin)) else { return nil }
    guard url.lowercased() == "\(SlotLayers.defaultBackend)://" else { return url }
    return try? secrets.resolve(SlotLayers.defaultBackendURL, base: base(origin))
  }

  private func url(of name: String, _ slots: SlotLayers) -> String? {
    if let node = slots.value("url", of: name), case .text(let text) = node.value { return resolved(text, node.origin) }
    guard let node = slots.value("url_file", of: name), case .text(let text) = node.value,
      let path = try? secrets.resolve(text, base: base(node.origin))
    else { return nil }
    return try? secrets.readFile(path, base: base(node.origin))
  }

  /// Gives every backend the name of its slot. One that has the URL of a slot of the proposal before or of the lower
  /// layers is that slot, once for each time that it is named; two proposals that name one backend share it.
  private func match(_ entries: inout [Entry], _ lower: SlotLayers) {
    let backends = lower.names(of: .backend)
    let urls = Dictionary(uniqueKeysWithValues: backends.map { ($0, url(of: $0, lower)) })
    // A slot that holds records of another place must not come to stand for these.
    var taken = Set(lower.slots.keys)
    for document in documents {
      taken.formUnion(document.slots.keys)
      taken.formUnion(document.proposal.backends.map(\.slot))
    }
    for index in documents.indices {
      let before = documents[index].proposal.backends.filter { backend in
        lower.slots[backend.slot] == nil || urls[backend.slot] == backend.url
      }
      var used: Set<String> = []
      for place in entries.indices where entries[place].document == index {
        let url = entries[place].url
        var known = before.filter { $0.url == url }.map(\.slot)
        known += backends.filter { urls[$0] == url }
        for other in entries where other.document < index && other.url == url {
          if let name = other.name { known.append(name) }
        }
        for backend in documents.flatMap(\.proposal.backends) where backend.url == url {
          if lower.slots[backend.slot] == nil { known.append(backend.slot) }
        }
        if let name = known.first(where: { !used.contains($0) }) {
          entries[place].name = name
          used.insert(name)
        }
      }
      for place in entries.indices where entries[place].document == index && entries[place].name == nil {
        let name = Self.freeName(entries[place].scheme, taken)
        entries[place].name = name
        taken.insert(name)
      }
    }
  }

  /// As `BACKEND_URL` names slots: `memory`, `memory-2`.
  private static func freeName(_ scheme: String, _ taken: Set<String>) -> String {
    // A slot's name has at most 63 bytes.
    let name = String(BackendURLs.slotNames(schemes: [scheme])[0].prefix(56))
    guard taken.contains(name) else { return name }
    var number = 2
    while taken.contains("\(name)-\(number)") { number += 1 }
    return "\(name)-\(number)"
  }

  private func layBackends(
    _ entries: [Entry], _ lower: SlotLayers, over slots: inout SlotLayers, problems: inout ProblemList
  ) {
    let replaced = Set(documents.flatMap(\.replaces))
    var named = Set(entries.compactMap(\.name))
    for entry in documents.flatMap(\.slots.entries) {
      if case .mapping = entry.node.value { named.insert(entry.key) }
    }
    for kind in replaced {
      for name in slots.names(ofKind: kind) where !named.contains(name) { slots.put(name, nil) }
    }
    var laid: [String: (mapping: ConfigurationMapping, document: Int)] = [:]
    for entry in entries {
      let name = entry.name!
      if let earlier = laid[name] {
        refuseConflicts(
          earlier.mapping, entry.mapping, documents[earlier.document], except: "url", problems: &problems)
      }
      laid[name] = (entry.mapping, entry.document)
      var slot = ConfigurationMapping()
      var origin = entry.node.origin
      if let node = slots.slots[name], case .mapping(let mapping) = node.value {
        slot = mapping
        origin = node.origin
      } else {
        slot.set("kind", ConfigurationNode(.text("backend"), entry.node.origin))
      }
      var added = entry.mapping
      // As it is written there: it may show what is secret in it as a placeholder.
      if slot["url"] != nil || slot["url_file"] != nil { added.remove("url") }
      slot.merge(added)
      slots.put(name, ConfigurationNode(.mapping(slot), origin))
    }
  }

  // MARK: Slots

  private func laySlots(_ entries: [Entry], over slots: inout SlotLayers, problems: inout ProblemList) {
    for document in documents {
      for entry in document.slots.entries {
        guard case .mapping(let mapping) = entry.node.value else {
          if entries.contains(where: { $0.name == entry.key }) {
            problems.add(
              entry.node.origin, "The slot is taken out here, and a backend with its url is wanted elsewhere.")
          }
          slots.put(entry.key, nil)
          continue
        }
        guard let node = slots.slots[entry.key], case .mapping(var slot) = node.value else {
          slots.put(entry.key, entry.node)
          continue
        }
        Self.makeRoom(for: mapping, in: &slot)
        slot.merge(mapping)
        slots.put(entry.key, ConfigurationNode(.mapping(slot), node.origin))
      }
    }
  }

  /// Another plugin takes other keys: what the one before took goes with it.
  private static func makeRoom(for later: ConfigurationMapping, in slot: inout ConfigurationMapping) {
    let keys = ["plugin", "plugin_path"]
    guard let key = keys.first(where: { later[$0] != nil }) else { return }
    if slot[key]?.value.canonicalJSON == later[key]?.value.canonicalJSON { return }
    let isBackend = slot["kind"]?.value.canonicalJSON == "\"backend\""
    let kernelKeys = SlotBuilder.kernelKeys + (isBackend ? PeerReader.keys : [])
    for name in slot.keys where !kernelKeys.contains(name) || keys.contains(name) { slot.remove(name) }
  }

  // MARK: Order

  /// The backends of the proposals come first, in their order, then the others in theirs.
  private func order(
    _ entries: [Entry], _ lower: SlotLayers, _ names: ScalarLayer.Value?, _ slots: inout SlotLayers
  ) {
    var first: [String] = []
    for entry in entries where !first.contains(entry.name!) { first.append(entry.name!) }
    var listed: [String] = []
    if case .stringArray(let list)? = names?.content { listed = list }
    // Who says nothing of backends leaves their order to the files.
    guard let origin = entries.first?.node.origin ?? (listed.isEmpty ? nil : names?.origin) else { return }
    func order(_ name: String) -> (Int, Int64, String) {
      let place = listed.firstIndex(of: name) ?? Int.max
      if case .integer(let order)? = slots.value("order", of: name)?.value { return (place, order, name) }
      return (place, 0, name)
    }
    let others = slots.names(of: .backend).filter { !first.contains($0) }.sorted { order($0) < order($1) }
    for (index, name) in (first + others).enumerated() {
      guard case .integer(Int64(index))? = slots.value("order", of: name)?.value else {
        let entry = entries.first { $0.name == name }
        slots.set("order", .integer(Int64(index)), in: name, entry?.node.origin ?? origin)
        continue
      }
    }
  }
}
