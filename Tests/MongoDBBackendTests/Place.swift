import Glibc
import MongoWireServer
import Synchronization

/// Where records can be kept: the server made for the tests, and a real one when `BACKPLANE_TEST_MONGODB_URL` names it
/// (mongodb://…/database; collections named backplane_test_… are made in it and stay).
enum Place: Sendable, CustomStringConvertible {
  case acting(Persona)
  case real(url: String)

  static let replicaSet = Place.acting(.replicaSet(name: "rs0"))

  /// Every place that has transactions.
  static let withTransactions = [replicaSet, .acting(.mongos)] + real
  static let all = withTransactions + [.acting(.standalone)]

  private static let real: [Place] =
    getenv("BACKPLANE_TEST_MONGODB_URL").map {
      [.real(url: String(cString: $0))]
    } ?? []

  /// Without the URL, which may hold a password.
  var description: String {
    switch self {
    case .acting(let persona): "\(persona)"
    case .real: "the server of BACKPLANE_TEST_MONGODB_URL"
    }
  }

  var hasTransactions: Bool {
    if case .acting(.standalone) = self { false } else { true }
  }

  /// The URL of an empty collection there, and what has to live as long as it is used.
  func open() -> (url: String, server: MongoWireServer?) {
    switch self {
    case .acting(let persona):
      let server = MongoWireServer(persona)
      return (server.url(), server)
    case .real(let url):
      let number = collectionsCount.add(1, ordering: .relaxed).newValue
      return (
        "\(url)\(url.contains("?") ? "&" : "?")collection=backplane_test_\(getpid())_\(time(nil))_\(number)", nil
      )
    }
  }
}

private let collectionsCount = Atomic<Int>(0)
