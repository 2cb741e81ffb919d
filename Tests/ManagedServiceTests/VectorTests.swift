import Testing
@testable import ManagedService
@Test func empty() {}
