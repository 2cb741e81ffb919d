import JSONText
import PluginAPI

/// What the answer to a health check comes to.
enum HealthCheck {
  enum Verdict: Equatable {
    case healthy
    /// There, and not well, in its own words.
    case unwell(String)
    /// There, but not what it should be: a sentence for the operator.
    case misconfigured(String)
  }

  static func verdict(_ answer: RemoteAnswer, _ settings: Settings) -> Verdict {
    let name = settings.remote.text
    switch answer.status {
    case 200...299: return .healthy
    case 300...399:
      return .misconfigured(
        "\(name) answers with a redirect, which is not followed; give the address it leads to as url")
    case 401, 403, 407:
      return .misconfigured("\(name) refuses the credentials of url, or wants some; correct its user and password")
    case 404, 405:
      return .misconfigured("\(name) has no /api/v1/health: no node answers there; correct url")
    default:
      let message = ErrorText.of(answer)
      let detail = message.isEmpty ? "" : ", saying: \(message)"
      return .unwell("Health check failed: \(name) answered with status \(answer.status)\(detail)")
    }
  }
}

/// The sentence in an error's body.
enum ErrorText {
  /// `error` or `message` of a JSON object, else the first line of a text; at most 500 characters, empty when there is
  /// none.
  static func of(_ answer: RemoteAnswer) -> String {
    let text = answer.body.withUnsafeReadableBytes { bytes -> String in
      if answer.isJSON {
        guard case .success(let value) = JSONScanner(depthMax: 100).scan(bytes) else { return "" }
        return value.member("error")?.text ?? value.member("message")?.text ?? ""
      }
      guard answer.mediaType == "text/plain" else { return "" }
      return String(decoding: bytes.prefix { $0 != 0x0a && $0 != 0x0d }.prefix(500), as: UTF8.self)
    }
    return String(text.prefix(500))
  }
}
