/// Where a managed node and its operator leave messages for each other. Keys are Ed25519 public keys in hexadecimal and
/// stand in the URIs as they were given: accounts compare them as text.
public enum ManagementURIs {
  /// What the node is configured by; written by the operator.
  public static func config(operatorKey: String, nodeId: String) -> String {
    "mutable://accounts/\(operatorKey)/nodes/\(nodeId)/config"
  }

  /// Which software the node should run; written by the operator.
  public static func update(operatorKey: String, nodeId: String) -> String {
    "mutable://accounts/\(operatorKey)/nodes/\(nodeId)/update"
  }

  /// The node's heartbeat; written by the node.
  public static func status(nodeId: String) -> String { "mutable://accounts/\(nodeId)/status" }

  /// What the node measured of itself; written by the node.
  public static func metrics(nodeId: String) -> String { "mutable://accounts/\(nodeId)/metrics" }

  /// Which nodes form a network; written by the operator.
  public static func network(operatorKey: String, networkId: String) -> String {
    "mutable://accounts/\(operatorKey)/networks/\(networkId)"
  }
}
