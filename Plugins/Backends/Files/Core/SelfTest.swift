import BackendSupport
import PluginAPI

/// A round trip in a directory of its own, through the same layout, writer and readers that serve.
enum SelfTest {
  static func run(_ settings: FilesSettings) throws {
    do {
      let root = try OpenRoot(settings)
      let gate = PlacementGate()
      let writer = try UnitWriter(root, settings, gate)
      let reader = RecordReader(tree: root.tree, gate: gate, sizeBytesMax: settings.recordSizeBytesMax)
      let scanner = Scanner(
        tree: root.tree, gate: gate, cache: RunCache(sizeBytesMax: settings.scanCacheSizeBytesMax))
      try SelfTestStore(
        apply: { writer.write([$0])[0] },
        read: { uri in
          try uri.withView { view throws(FilesProblem) in
            try reader.find(view.bytes, isWithoutData: false)?.taken()
          }
        },
        scan: { prefix in
          try prefix.withView { view throws(FilesProblem) in
            try scanner.page(prefix: view.bytes, cursor: BorrowedBytes(start: nil, count: 0), limit: 100)
          }.uris
        }
      ).run()
      try writer.close()
    } catch let problem as FilesProblem {
      throw problem.failure
    }
  }
}
