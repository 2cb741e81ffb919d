import Foundation
import NodeTesting

/// Memory nodes that speak TLS, and others with keys of the HTTP slot's own.
public enum SecureNode {
  /// Starts a node and waits for its first healthy answer.
  /// - Parameters:
  ///   - pair: what it shows; nil: clear text.
  ///   - keys: more lines of the slot, each with its own indentation beyond the slot's.
  ///   - tls: more lines of the `tls` mapping.
  ///   - client: what the one who waits shows.
  public static func start(
    _ pair: Certificates.Pair?, authority: String?, keys: [String] = [], tls: [String] = [],
    client: Certificates.Pair? = nil
  ) throws -> NodeProcess {
    let node = try NodeProcess(configuration: configuration(pair, keys: keys, tls: tls), waits: false)
    var options: NIOClient.TLS?
    if pair != nil, let authority {
      options = NIOClient.TLS(authority: authority)
      options?.certificate = client
    }
    let isHealthy = Polling.until(seconds: 60) {
      guard node.isRunning else { return true }
      let client = try? NIOClient(port: node.port, tls: options, http2: false)
      return (try? client?.get("/health").status) == 200
    }
    guard isHealthy, node.isRunning else {
      throw NodeProcess.Failed(description: "the node does not answer over TLS:\n\(node.log)")
    }
    return node
  }

  /// The text of backplane.yaml.
  public static func configuration(_ pair: Certificates.Pair?, keys: [String] = [], tls: [String] = []) -> String {
    var lines = ["slots:", "  memory:", "    kind: backend", "    url: \"memory://\"", "  http:"]
    lines += (keys.isEmpty && pair == nil ? ["cors_origin: \"*\""] : keys).map { "    " + $0 }
    if let pair {
      lines += ["    tls:", "      certificate_file: \(pair.certificate)", "      private_key_file: \(pair.key)"]
      lines += tls.map { "      " + $0 }
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
