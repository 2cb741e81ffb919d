import CMongoC
import Glibc
import PluginAPI

/// The URL of a slot, checked and split into what is libmongoc's and what is ours. Holds secrets: only `place` may be
/// shown to anybody.
struct ConnectionString: Sendable {
  /// What libmongoc is given: without our options, and with time limits where the URL names none.
  let uri: URI
  let database: String
  let collection: String
  let writeConcern: WriteConcern
  /// For messages: `b3nd_data in the database db at 127.0.0.1:27017`.
  let place: String
  /// Never to be seen in a message: user name and password, as written and decoded.
  private let secrets: [String]

  static let collectionDefault = "b3nd_data"
  /// Time to find a server that can do the work, in milliseconds, when the URL says nothing.
  private static let selectionTimeoutMs = 5_000
  /// How often a server is looked at that is not there; it bounds how long its return goes unnoticed.
  private static let heartbeatMs = 1_000

  /// Opens nothing but looks whether files that the URL names can be read. Throws `ConfigurationErrors`.
  init(_ url: String, callTimeoutMs: Int) throws(ConfigurationErrors) {
    Library.begin()
    let parts = try URLParts(url)
    secrets = parts.secrets
    collection = try Self.collection(parts)
    try Self.checkOptions(parts)
    var error = bson_error_t()
    guard let handle = mongoc_uri_new_with_error(parts.withoutOurOptions, &error) else {
      throw Self.problem(
        "the url \(parts.redacted) cannot be understood: "
          + "\(Self.redacting(error.text, parts.secrets)); write mongodb://host:port/database")
    }
    uri = URI(handle)
    guard let database = mongoc_uri_get_database(handle).map({ String(cString: $0) }), !database.isEmpty else {
      // The peer's words.
      throw Self.problem("MongoDB backend spec must include database in path: \(parts.redacted)")
    }
    self.database = database
    try Self.checkNames(database, collection)
    writeConcern = try WriteConcern(settling: handle, timeoutMs: callTimeoutMs)
    try Self.checkReading(handle, writeConcern)
    try Self.checkFiles(handle)
    for (option, value) in [
      (MONGOC_URI_SERVERSELECTIONTIMEOUTMS, Self.selectionTimeoutMs), (MONGOC_URI_CONNECTTIMEOUTMS, callTimeoutMs),
      (MONGOC_URI_SOCKETTIMEOUTMS, callTimeoutMs), (MONGOC_URI_WAITQUEUETIMEOUTMS, callTimeoutMs),
      (MONGOC_URI_HEARTBEATFREQUENCYMS, Self.heartbeatMs),
    ] where !mongoc_uri_has_option(handle, option) {
      mongoc_uri_set_option_as_int32(handle, option, Int32(value))
    }
    if !mongoc_uri_has_option(handle, MONGOC_URI_APPNAME) { mongoc_uri_set_appname(handle, "backplane") }
    place = "\(collection) in the database \(database) at \(parts.hosts)"
  }

  /// A parsed URL of libmongoc's, made by one thread and only read after.
  final class URI: @unchecked Sendable {
    // @unchecked: changed by `ConnectionString.init` alone.
    let handle: OpaquePointer
    init(_ handle: OpaquePointer) { self.handle = handle }
    deinit { mongoc_uri_destroy(handle) }
  }

  /// The text without what must stay secret: libmongoc is not known to repeat it, but nobody promises.
  func redacting(_ text: String) -> String { Self.redacting(text, secrets) }

  private static func redacting(_ text: String, _ secrets: [String]) -> String {
    var text = text
    for secret in secrets where secret.utf8.count >= 4 { text = text.replacing(secret, with: "***") }
    return text
  }

  static func problem(_ message: String) -> ConfigurationErrors {
    ConfigurationErrors(problems: [ConfigurationProblem(pointer: "/url", message: message)])
  }

  // MARK: What is ours

  private static func collection(_ parts: URLParts) throws(ConfigurationErrors) -> String {
    let values = parts.options.filter { $0.name == "collection" }
    guard values.count <= 1 else { throw problem("the url names the collection \(values.count) times; name one") }
    guard let value = values.first else { return collectionDefault }
    guard let name = value.value.flatMap(PercentText.decode), !name.isEmpty else {
      throw problem(
        "the collection in the url has no name or a % that is not followed by two hexadecimal digits; write "
          + "collection=NAME")
    }
    return name
  }

  private static func checkNames(_ database: String, _ collection: String) throws(ConfigurationErrors) {
    if database.utf8.count > 63 || database.utf8.contains(where: { Array(" /\\.\"$*<>:|?\0".utf8).contains($0) }) {
      throw problem(
        "the database '\(database)' in the url is no name that MongoDB allows: up to 63 bytes, without spaces and "
          + "/\\.\"$*<>:|?")
    }
    let isSystem = collection.hasPrefix("system.")
    if isSystem || collection.utf8.contains(where: { $0 == UInt8(ascii: "$") || $0 == 0 }) || collection.hasPrefix(".")
      || database.utf8.count + 1 + collection.utf8.count > 120
    {
      throw problem(
        "the collection '\(collection)' in the url is no name that MongoDB allows: without $, not beginning with a dot "
          + "or system., and with the database's name at most 120 bytes")
    }
  }

  // MARK: What libmongoc is to understand

  /// libmongoc passes over options that it does not know; an operator who misspells `w` must hear of it.
  private static func checkOptions(_ parts: URLParts) throws(ConfigurationErrors) {
    var problems: [ConfigurationProblem] = []
    for option in parts.options where option.name != "collection" && !known.contains(option.name) {
      let shown = String(option.written.prefix(64))
      problems.append(
        ConfigurationProblem(
          pointer: "/url",
          message:
            "the url has the option '\(shown)', which neither this backend nor libmongoc knows; correct or remove it"
        ))
    }
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
  }

  private static func checkReading(
    _ handle: OpaquePointer, _ writeConcern: WriteConcern
  ) throws(ConfigurationErrors) {
    let level = mongoc_read_concern_get_level(mongoc_uri_get_read_concern(handle)).map { String(cString: $0) }
    if level == "majority" || level == "snapshot", writeConcern.members != .majority {
      throw problem(
        "readConcernLevel=\(level ?? "") in the url sees less than w acknowledges; a read must see every write that was "
          + "acknowledged before it: write w=majority, or remove readConcernLevel")
    }
    let mode = mongoc_read_prefs_get_mode(mongoc_uri_get_read_prefs_t(handle))
    if mode != MONGOC_READ_PRIMARY {
      throw problem(
        "readPreference in the url is not primary; a read must see every write that was acknowledged before it, which "
          + "only the primary promises: remove readPreference")
    }
  }

  private static func checkFiles(_ handle: OpaquePointer) throws(ConfigurationErrors) {
    for option in [MONGOC_URI_TLSCAFILE, MONGOC_URI_TLSCERTIFICATEKEYFILE] {
      guard let path = mongoc_uri_get_option_as_utf8(handle, option, nil).map({ String(cString: $0) }) else { continue }
      if access(path, R_OK) != 0 {
        throw problem(
          "\(option) in the url names \(path), which cannot be read (\(String(cString: strerror(errno)))); correct the "
            + "path or its permissions")
      }
    }
  }

  private static let known: Set<String> = [
    MONGOC_URI_APPNAME, MONGOC_URI_AUTHMECHANISM, MONGOC_URI_AUTHMECHANISMPROPERTIES, MONGOC_URI_AUTHSOURCE,
    MONGOC_URI_CANONICALIZEHOSTNAME, MONGOC_URI_CONNECTTIMEOUTMS, MONGOC_URI_COMPRESSORS, MONGOC_URI_DIRECTCONNECTION,
    MONGOC_URI_GSSAPISERVICENAME, MONGOC_URI_HEARTBEATFREQUENCYMS, MONGOC_URI_JOURNAL, MONGOC_URI_LOADBALANCED,
    MONGOC_URI_LOCALTHRESHOLDMS, MONGOC_URI_MAXIDLETIMEMS, MONGOC_URI_MAXPOOLSIZE, MONGOC_URI_MAXSTALENESSSECONDS,
    MONGOC_URI_MINPOOLSIZE, MONGOC_URI_READCONCERNLEVEL, MONGOC_URI_READPREFERENCE, MONGOC_URI_READPREFERENCETAGS,
    MONGOC_URI_REPLICASET, MONGOC_URI_RETRYREADS, MONGOC_URI_RETRYWRITES, MONGOC_URI_SAFE,
    MONGOC_URI_SERVERSELECTIONTIMEOUTMS, MONGOC_URI_SERVERSELECTIONTRYONCE, MONGOC_URI_SLAVEOK,
    MONGOC_URI_SOCKETCHECKINTERVALMS, MONGOC_URI_SOCKETTIMEOUTMS, MONGOC_URI_SRVSERVICENAME, MONGOC_URI_SRVMAXHOSTS,
    MONGOC_URI_TLS, MONGOC_URI_TLSCERTIFICATEKEYFILE, MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD, MONGOC_URI_TLSCAFILE,
    MONGOC_URI_TLSALLOWINVALIDCERTIFICATES, MONGOC_URI_TLSALLOWINVALIDHOSTNAMES, MONGOC_URI_TLSINSECURE,
    MONGOC_URI_TLSDISABLECERTIFICATEREVOCATIONCHECK, MONGOC_URI_TLSDISABLEOCSPENDPOINTCHECK, MONGOC_URI_W,
    MONGOC_URI_WAITQUEUEMULTIPLE, MONGOC_URI_WAITQUEUETIMEOUTMS, MONGOC_URI_WTIMEOUTMS,
    MONGOC_URI_ZLIBCOMPRESSIONLEVEL, MONGOC_URI_SSL, MONGOC_URI_SSLCLIENTCERTIFICATEKEYFILE,
    MONGOC_URI_SSLCLIENTCERTIFICATEKEYPASSWORD, MONGOC_URI_SSLCERTIFICATEAUTHORITYFILE,
    MONGOC_URI_SSLALLOWINVALIDCERTIFICATES, MONGOC_URI_SSLALLOWINVALIDHOSTNAMES,
  ]
}

extension bson_error_t {
  /// What the library says. May name hosts, never passwords.
  var text: String {
    withUnsafeBytes(of: message) { raw in String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self) }
  }
}
