import BackendSupport
import PluginAPI

/// A round trip on a file of its own, through the same layout, writer and reader that serve.
enum SelfTest {
  static func run(_ settings: SQLiteSettings) throws {
    do {
      let connection = try Layout.open(settings)
      let writer = try UnitWriter(connection)
      let reader = try Reader(settings)
      try SelfTestStore(
        apply: { unit in
          try writer.begin()
          defer { writer.rollback() }
          let outcome = try writer.apply(unit)
          try writer.commit()
          return outcome
        },
        read: { uri in
          try uri.withView { view throws(SQLiteProblem) in
            try reader.find(view.bytes, isWithoutData: false)?.taken()
          }
        },
        scan: { prefix in
          try prefix.withView { view throws(SQLiteProblem) in
            try reader.page(prefix: view.bytes, cursor: BorrowedBytes(start: nil, count: 0), limit: 100)
          }.uris
        }
      ).run()
    } catch let problem as SQLiteProblem {
      throw problem.failure
    }
  }
}
