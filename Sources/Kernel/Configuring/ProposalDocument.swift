/// A proposal's text, read strictly: what it says, each part with its place.
struct ProposalDocument {
  let proposal: Proposal
  /// Kinds whose slots of the lower layers go.
  private(set) var replaces: [String] = []
  /// Settings of the section `node`.
  private(set) var node = ConfigurationMapping()
  private(set) var backends: [ConfigurationNode] = []
  private(set) var slots = ConfigurationMapping()

  var slot: String { proposal.slot }

  private static let keys = ["replaces", "node", "backends", "slots"]
  private static let kinds = SlotConfiguration.Kind.allCases.map(\.rawValue).filter { $0 != serviceKind }
  static let serviceKind = "service"
  private static let nodeKeys = ["name", "write_policy"]

  /// Nil when there is a problem that leaves nothing to read; others are in `problems` as well.
  init?(_ proposal: Proposal, problems: inout ProblemList) {
    self.proposal = proposal
    let bytes = Array(proposal.json.utf8)
    func origin(_ pointer: String) -> ConfigurationOrigin { .proposal(slot: proposal.slot, pointer: pointer) }
    guard bytes.count <= Proposal.sizeBytesMax else {
      problems.add(
        origin(""), "The proposal has \(bytes.count) bytes; at most \(Proposal.sizeBytesMax) are taken.")
      return nil
    }
    let root: StrictJSON
    do throws(StrictJSON.Failure) {
      root = try StrictJSON.parse(bytes, depthMax: Proposal.depthMax)
    } catch {
      problems.add(origin(error.pointer), "It is not valid JSON at byte \(error.offsetBytes): \(error.reason).")
      return nil
    }
    guard Self.holds(root, atMost: Proposal.valuesMax) else {
      problems.add(origin(""), "The proposal has more than \(Proposal.valuesMax) values.")
      return nil
    }
    guard case .mapping(let mapping) = Self.convert(root, proposal.slot, "").value else {
      problems.add(origin(""), "A proposal must be an object, but is \(root.kind).")
      return nil
    }
    for entry in mapping.entries {
      switch entry.key {
      case "replaces": readReplaces(entry.node, problems: &problems)
      case "node": readNode(entry.node, problems: &problems)
      case "backends": readBackends(entry.node, problems: &problems)
      case "slots": readSlots(entry.node, problems: &problems)
      default:
        problems.add(
          entry.keyOrigin,
          "The key \(Redaction.quoted(entry.key)) is unknown here.\(Suggestion.sentence(for: entry.key, among: Self.keys))"
        )
      }
    }
  }

  private mutating func readReplaces(_ node: ConfigurationNode, problems: inout ProblemList) {
    guard case .list(let nodes) = node.value else {
      problems.add(node.origin, "The value must be a list of kinds, but is \(node.value.found).")
      return
    }
    for item in nodes {
      if case .text(let kind) = item.value, Self.kinds.contains(kind) {
        if !replaces.contains(kind) { replaces.append(kind) }
      } else {
        problems.add(
          item.origin, "The kind must be one of \(Self.kinds.joined(separator: ", ")), but is \(item.value.found).")
      }
    }
  }

  private mutating func readNode(_ section: ConfigurationNode, problems: inout ProblemList) {
    guard case .mapping(let mapping) = section.value else {
      problems.add(section.origin, "The value must be an object, but is \(section.value.found).")
      return
    }
    for entry in mapping.entries {
      guard Self.nodeKeys.contains(entry.key) else {
        problems.add(
          entry.keyOrigin,
          "A proposal may set node.\(Self.nodeKeys.joined(separator: " and node.")), and not "
            + "\(Redaction.quoted(entry.key)).")
        continue
      }
      if case .null = entry.node.value { continue }
      node.set(entry.key, entry.node)
    }
  }

  private mutating func readBackends(_ node: ConfigurationNode, problems: inout ProblemList) {
    guard case .list(let nodes) = node.value else {
      problems.add(node.origin, "The value must be a list of backends, but is \(node.value.found).")
      return
    }
    guard nodes.count <= BackendURLs.entriesMax else {
      problems.add(
        node.origin, "The list holds \(nodes.count) backends; at most \(BackendURLs.entriesMax) are taken.")
      return
    }
    for item in nodes {
      guard case .mapping(let mapping) = item.value else {
        problems.add(item.origin, "A backend must be an object with a url, but is \(item.value.found).")
        continue
      }
      if mapping["url"] == nil { problems.add(item.origin, "The backend has no url.") }
      if let order = mapping["order"] {
        problems.add(order.origin, "The place in the list is the order. Leave the key out.")
      }
      if let kind = mapping["kind"], kind.value.canonicalJSON != #""backend""# {
        problems.add(kind.origin, "The kind must be backend, but is \(kind.value.found).")
      }
      backends.append(item)
    }
  }

  private mutating func readSlots(_ node: ConfigurationNode, problems: inout ProblemList) {
    guard case .mapping(let mapping) = node.value else {
      problems.add(node.origin, "The value must be an object from names to slots, but is \(node.value.found).")
      return
    }
    for entry in mapping.entries {
      switch entry.node.value {
      case .null: slots.set(entry.key, entry.node, keyOrigin: entry.keyOrigin)
      case .mapping(let slot):
        if slot["kind"]?.value.canonicalJSON == #""\#(Self.serviceKind)""# {
          problems.add(
            entry.keyOrigin, "A proposal may not have slots of the kind service: they are the operator's alone.")
        } else {
          slots.set(entry.key, entry.node, keyOrigin: entry.keyOrigin)
        }
      default:
        problems.add(entry.node.origin, "A slot must be an object, or null, but is \(entry.node.value.found).")
      }
    }
  }

  private static func holds(_ json: StrictJSON, atMost valuesMax: Int) -> Bool {
    var waiting = [json]
    var count = 0
    while let next = waiting.popLast() {
      count += 1
      guard count <= valuesMax else { return false }
      switch next.value {
      case .array(let elements): waiting += elements
      case .object(let members): waiting += members.map(\.value)
      default: break
      }
    }
    return true
  }

  private static func convert(_ json: StrictJSON, _ slot: String, _ pointer: String) -> ConfigurationNode {
    let origin = ConfigurationOrigin.proposal(slot: slot, pointer: pointer)
    switch json.value {
    case .null: return ConfigurationNode(.null, origin)
    case .boolean(let value): return ConfigurationNode(.boolean(value), origin)
    case .number(let text):
      if let value = Int64(text) { return ConfigurationNode(.integer(value), origin) }
      // What no number of 64 bits comes near goes on as text, and is refused where a number is wanted.
      guard let value = Double(text), value.isFinite else { return ConfigurationNode(.text(text), origin) }
      return ConfigurationNode(.number(value), origin)
    case .string(let text): return ConfigurationNode(.text(text), origin)
    case .array(let elements):
      return ConfigurationNode(
        .list(elements.enumerated().map { convert($1, slot, "\(pointer)/\($0)") }), origin)
    case .object(let members):
      var mapping = ConfigurationMapping()
      for member in members {
        mapping.set(member.key, convert(member.value, slot, JSONPointer.appending(member.key, to: pointer)))
      }
      return ConfigurationNode(.mapping(mapping), origin)
    }
  }
}
