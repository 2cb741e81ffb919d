import Foundation

/// What can be asked over the control socket.
enum ControlCommands {
  private struct Request: Decodable {
    var command: String
    var now: [String]?
    var lose_state: Bool?
    var retry: Bool?
    var slots: [String]?
    var limit: Int?
    var slot: String?
    var plugin: String?
    var executable: String?
  }

  static func answer(_ line: [UInt8], _ kernel: Kernel) -> Data {
    let request: Request
    do {
      request = try JSONDecoder().decode(Request.self, from: Data(line))
    } catch {
      return ControlAnswer.failure("usage", "the request is not a JSON object with a \"command\"")
    }
    switch request.command {
    case "reload":
      let receipt = kernel.reload(
        "control", now: Set(request.now ?? []), losesState: request.lose_state ?? false,
        retries: request.retry ?? false)
      guard let receipt else { return ControlAnswer.failure("unavailable", "the node is ending") }
      return ControlAnswer.success(["receipt": receipt])
    case "rollback":
      guard let receipt = kernel.rollBack(request.slots) else {
        return ControlAnswer.failure("unavailable", "the node is ending")
      }
      return ControlAnswer.success(["receipt": receipt])
    case "upgrade":
      guard let receipt = kernel.upgrade(request.executable) else {
        return ControlAnswer.failure("unavailable", "the node is ending")
      }
      return ControlAnswer.success(["receipt": receipt])
    case "status": return ControlAnswer.success(kernel.status())
    case "configuration":
      return ControlAnswer.success(
        ["values": kernel.values().map { ["key": $0.key, "value": $0.value, "origin": $0.origin.description] }])
    case "history":
      let count = min(max(request.limit ?? 20, 1), 100_000)
      return ControlAnswer.success(["receipts": Array(kernel.receipts(last: count).reversed())])
    case "accept":
      guard let slot = request.slot else { return ControlAnswer.failure("usage", "\"slot\" is missing") }
      guard kernel.acceptBehind(slot: slot) else {
        return ControlAnswer.failure("refused", "the slot '\(slot)' is not behind")
      }
      return ControlAnswer.success(["slot": slot])
    case "generations": return ControlAnswer.success(kernel.generations())
    case "quarantine": return ControlAnswer.success(["quarantine": kernel.quarantined()])
    case "quarantine-clear":
      guard let plugin = request.plugin else { return ControlAnswer.failure("usage", "\"plugin\" is missing") }
      let cleared = kernel.clearQuarantine(plugin)
      guard !cleared.isEmpty else {
        return ControlAnswer.failure(
          "refused", "nothing of '\(Wording.printable(plugin, lengthMax: 128))' is in quarantine")
      }
      return ControlAnswer.success(["quarantine": cleared])
    default:
      return ControlAnswer.failure(
        "usage", "the command '\(Wording.printable(request.command, lengthMax: 64))' is not known to this node")
    }
  }
}

/// `{"ok":true,…}` or `{"ok":false,"code":…,"message":…}`.
enum ControlAnswer {
  private struct Success<Body: Encodable>: Encodable {
    var body: Body

    private enum CodingKeys: String, CodingKey { case ok }

    func encode(to encoder: any Encoder) throws {
      try body.encode(to: encoder)
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(true, forKey: .ok)
    }
  }

  static func success(_ body: some Encodable) -> Data { encode(Success(body: body)) }

  static func failure(_ code: String, _ message: String) -> Data {
    struct Failure: Encodable {
      var ok = false
      var code: String
      var message: String
    }
    return encode(Failure(code: code, message: message))
  }

  private static func encode(_ value: some Encodable) -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return (try? encoder.encode(value)) ?? Data(#"{"ok":false,"code":"internal","message":"no answer"}"#.utf8)
  }
}
