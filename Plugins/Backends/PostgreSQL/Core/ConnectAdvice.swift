/// Turns what libpq or the server says about a failed connection into a sentence that names what to do. Servers may speak
/// another language; then the message itself has to do.
enum ConnectAdvice {
  /// - `text`: one line, without secrets.
  static func sentence(_ text: String, _ url: ConnectionURL) -> String {
    "PostgreSQL at \(url.place) cannot be used: \(reason(text)); \(advice(text, url))"
  }

  /// Without libpq's repetition of where it was connecting to.
  private static func reason(_ text: String) -> String {
    for mark in ["FATAL: ", "failed: "] {
      let parts = text.split(separator: mark, omittingEmptySubsequences: false)
      if parts.count == 2 { return parts[1].drop { $0 == " " }.description }
    }
    return text.isEmpty ? "it gave no reason" : text
  }

  private static func advice(_ text: String, _ url: ConnectionURL) -> String {
    func says(_ words: String...) -> Bool { words.contains { text.contains($0) } }
    if says("password authentication failed", "no password supplied", "authentication failed") {
      return "check user and password in url"
    }
    if says("could not translate host name") { return "check the host in url, and the resolver of this machine" }
    if says("server does not support SSL") {
      return "turn ssl on at the server, or give sslmode=prefer or sslmode=disable in url"
    }
    if says("certificate verify failed", "root certificate file", "does not match host name", "SSL error") {
      return "check sslmode, sslrootcert and the server's certificate"
    }
    if says("no pg_hba.conf entry", "pg_hba.conf rejects") {
      return "allow this user, database and address in the server's pg_hba.conf, or give sslmode=require in url"
    }
    if says("database \"") && says("does not exist") { return "make it with CREATE DATABASE, or correct url" }
    if says("role \"") && says("does not exist") { return "make it with CREATE ROLE, or correct the user in url" }
    if says("too many clients", "remaining connection slots", "too many connections") {
      return "raise max_connections there, or lower connections_max"
    }
    if says("Connection refused", "No such file or directory") {
      return "see that the server runs, and that host and port in url are its own"
    }
    if says("starting up", "shutting down", "recovery mode", "not yet accepting") { return "it is tried again" }
    if says("session is read-only", "session is not read-only", "in hot standby", "not in hot standby") {
      return "none of the hosts in url is what target_session_attrs asks for"
    }
    return "check url"
  }
}
