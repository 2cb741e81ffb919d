import PluginAPI

/// What a status that is no success means to the caller.
enum AnswerFailure {
  static func of(_ answer: RemoteAnswer, _ settings: Settings) -> Failure {
    let name = settings.remote.text
    let text = ErrorText.of(answer)
    let said = text.isEmpty ? "" : ": \(text)"
    switch answer.status {
    case 200...299: return strange(answer, settings)
    case 300...399:
      return Failure(
        code: BP_UNAVAILABLE,
        "\(name) answered with a redirect, which is not followed; give the address it leads to as url")
    case 401, 403, 407:
      return Failure(
        code: BP_UNAVAILABLE,
        "\(name) refuses the credentials of url, or wants some (status \(answer.status)); correct its user and password"
      )
    case 404, 405:
      return Failure(code: BP_UNAVAILABLE, "no node answers at \(name) (status \(answer.status)); correct url")
    case 408, 425:
      return .unavailable("\(name) answered with status \(answer.status)\(said)", retryAfterMs: retryAfterMs(answer))
    case 413, 414, 431:
      return .invalid("\(name) refuses it as too long (status \(answer.status))\(said)")
    case 429:
      return .exhausted("\(name) wants fewer requests (status 429)\(said)", retryAfterMs: retryAfterMs(answer))
    case 400...499: return .invalid("\(name) refused the request with status \(answer.status)\(said)")
    case 500...599:
      return .unavailable("\(name) answered with status \(answer.status)\(said)", retryAfterMs: retryAfterMs(answer))
    default: return strange(answer, settings)
    }
  }

  /// An answer that no node gives.
  static func strange(_ answer: RemoteAnswer, _ settings: Settings) -> Failure {
    Failure(
      code: BP_UNAVAILABLE,
      "\(settings.remote.text) gave an answer that is no node's (status \(answer.status), "
        + "\(answer.mediaType.prefix(100)), \(answer.body.readableBytes) bytes); correct url")
  }

  /// Seconds as HTTP has them, at most a day; a date is not looked at.
  static func retryAfterMs(_ answer: RemoteAnswer) -> UInt32 {
    guard let seconds = answer.headers.first(name: "retry-after").flatMap({ UInt32($0) }) else { return 0 }
    return min(seconds, 86_400) * 1_000
  }
}
