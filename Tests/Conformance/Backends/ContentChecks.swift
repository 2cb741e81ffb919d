import PluginAPI
import PluginTestHost

/// What a record may be, kept to the byte.
struct ContentChecks {
  let traces: NamedTraces
  private var bench: Workbench { traces.bench }
  private let root = TraceRun.roots[0]

  init(_ traces: NamedTraces) { self.traces = traces }

  func run() async {
    await contents()
    await LimitChecks(bench).run()
  }

  private func contents() async {
    let root = root
    await traces.check("backend.contents") { trace in
      for (index, data) in [[], [0], [0xff, 0xfe], Array(0...255), Array("\"\\u0000\\ud800\"".utf8)].enumerated() {
        trace.unit([.put("\(root)/bytes/\(index)", data, .bytes)])
        trace.read("\(root)/bytes/\(index)")
      }
      for text in ["null", "[ 1 ]", #"{"b":1,"a":2,"b":3}"#, #""\u0000é€😀\ud800""#, "1e400", "-0.0"] {
        trace.put("\(root)/json", text)
        trace.read("\(root)/json")
      }
      trace.scan(root)
    }
    await traces.check("backend.odd-uris") { trace in
      let tails = [
        "", "/%00", "/%2F", "/%2f", "/%25", "/%E2%82%AC", "/a'b", "/a\"b".replacing("\"", with: "%22"), "/a;b=c,d",
        "/a_b",
        "/a%25b", "/*", "/[a]".replacing("[", with: "%5B"), "/!$&()+", "/~", "/A", "/a", "/.../a", "/aaaaaaaaaaaaaaaaa",
        "/a:b@c",
      ]
      for (index, tail) in tails.enumerated() { trace.put(root + tail, "\(index)") }
      for tail in tails { trace.read(root + tail) }
      // Names that a pattern (LIKE, GLOB, regular expression) would take for one another.
      for prefix in ["/a_", "/a%25", "/*", "/%2", "/A", "/a", "/."] { trace.scan(root + prefix, credits: 3) }
      trace.scan(root, credits: 4)
      trace.delete(root + "/a_b")
      trace.delete(root + "/A")
      trace.scan(root, credits: 100)
    }
  }
}
