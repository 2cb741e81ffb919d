/// Decodes a slot's configuration, strictly: RFC 8259 and nothing else, no duplicate keys, no key that the type does not
/// know, numbers exactly or not at all.
public enum ConfigurationDecoder {
  /// The most bytes a configuration may have.
  public static var sizeBytesMax: Int { 1 << 20 }
  /// The most lists and objects that may be open inside one another.
  public static var depthMax: Int { 64 }
  /// The most problems that one error reports.
  public static var problemsMax: Int { 32 }

  /// Decodes `json` as a `T`.
  ///
  /// - Parameters:
  ///   - type: The type to decode, usually the plugin's `Configuration`. Its coding keys are the keys a user may write.
  ///   - json: The document. Borrowed for the call; nothing of it is kept.
  /// - Returns: The value, when the document is sound, has every required key, and no key that went unasked for.
  /// - Throws: `ConfigurationErrors`. A document that is not sound JSON is reported by its first mistake (or by all its
  ///   duplicate keys). Otherwise `Decodable` stops at the first value that does not fit, which is reported first,
  ///   followed by the unknown keys of every object that had been decoded completely by then. Values under keys that
  ///   look secret, and the user information in URLs, are never repeated; what an author's own error says is withheld
  ///   when it repeats such a value.
  ///
  /// Synchronous, on the calling thread; uses no state outside the call.
  public static func decode<T: Decodable>(
    _ type: T.Type, from json: UnsafeBufferPointer<UInt8>
  ) throws(ConfigurationErrors) -> T {
    let root = try ConfigurationParser.parse(json)
    let run = ConfigurationRun(root: root)
    let value: T
    do {
      value = try run.decode(type, at: ConfigurationCursor(root: root))
    } catch {
      throw bounded(run.problems(for: error) + run.unknownKeyProblems())
    }
    let problems = run.unknownKeyProblems()
    if !problems.isEmpty { throw bounded(problems) }
    return value
  }

  static func bounded(_ problems: [ConfigurationProblem]) -> ConfigurationErrors {
    guard problems.count > problemsMax else { return ConfigurationErrors(problems: problems) }
    let shown = problemsMax - 1
    let last = ConfigurationProblem(
      message: "\(problems.count - shown) more problems are not shown; correct these first and try again.")
    return ConfigurationErrors(problems: problems.prefix(shown) + [last])
  }
}
