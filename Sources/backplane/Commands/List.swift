import ArgumentParser

struct List: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Print the URIs of the records below a URI.",
    discussion: "One a line; which page it is and how many there are goes to standard error.")

  enum SortKey: String, ExpressibleByArgument, CaseIterable { case name, timestamp }
  enum SortOrder: String, ExpressibleByArgument, CaseIterable { case ascending = "asc", descending = "desc" }

  @Argument(help: "The URI, such as mutable://open.") var uri: String
  @Option(name: .long, help: "The page, from 1.") var page: Int = 1
  @Option(name: .long, help: "Records a page.") var limit: Int = 50
  @Option(name: .long, help: "A regular expression the whole URI is searched for.") var pattern: String?
  @Option(name: .long, help: "What to sort by.") var sortBy: SortKey?
  @Option(name: .long, help: "Which way to sort.") var sortOrder: SortOrder?
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard page >= 1, limit >= 1 else { throw ValidationError("--page and --limit count from 1.") }
  }

  func run() async throws {
    var path = try "/api/v1/list" + RecordPath.path(of: uri) + "?page=\(page)&limit=\(limit)"
    if let pattern { path += "&pattern=" + RecordPath.queryEncoded(pattern) }
    if let sortBy { path += "&sortBy=" + sortBy.rawValue }
    if let sortOrder { path += "&sortOrder=" + sortOrder.rawValue }
    let response = try await node.client().send(.GET, path)
    guard response.status == 200 else { throw response.failure("the node did not list \(uri)") }
    if output.json {
      try response.printJSON()
      return
    }
    guard let answer = JSONValue.parse(response.body), let records = answer["data"]?.array else {
      throw response.failure("the node's list is not what this program knows")
    }
    for record in records { Output.line(Output.printable(record["uri"]?.string ?? "-")) }
    let total = answer["pagination"]?["total"]?.integer ?? Int64(records.count)
    let limit = max(1, answer["pagination"]?["limit"]?.integer ?? Int64(limit))
    let pages = max(1, total / limit + (total % limit == 0 ? 0 : 1))
    Output.error("Page \(page) of \(pages), \(total) records in all.")
  }
}
