import NodeTesting
import Testing
@Test func emptyNode() throws { _ = try TemporaryFolder() }
