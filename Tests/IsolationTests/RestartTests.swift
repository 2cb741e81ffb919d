import Testing

@testable import Kernel

@Suite struct RestartPlans {
  private let settings = IsolationSettings(hostExecutable: "")

  @Test func theFirstRestartIsAtOnceAndLaterOnesDouble() {
    let delays = (1...5).map { RestartPlan(crashesInWindow: $0, settings).delayMs }
    #expect(delays == [0, 100, 200, 400, 800])
    #expect(RestartPlan(crashesInWindow: 5, settings).isBreakerOpen == false)
  }

  @Test func tooManyCrashesOpenTheBreaker() {
    #expect(
      RestartPlan(crashesInWindow: 6, settings) == RestartPlan(crashesInWindow: 600, settings))
    #expect(RestartPlan(crashesInWindow: 6, settings).isBreakerOpen)
    #expect(RestartPlan(crashesInWindow: 6, settings).delayMs == settings.breakerOpenMs)
  }

  @Test func pausesAreBounded() {
    var patient = settings
    patient.crashesMax = 1000
    #expect(RestartPlan(crashesInWindow: 500, patient).delayMs == patient.restartDelayMsMax)
  }
}

@Suite struct RememberedForms {
  @Test func theyAreBoundedAndTheUsedOnesStay() {
    let answers = CanonicalAnswers()
    func key(_ number: Int) -> [UInt8] { Array("hash://sha256/\(number)".utf8) }
    func keep(_ number: Int) { key(number).withUnsafeBufferPointer { answers.keep([UInt8(number & 0xff)], for: $0) } }
    func find(_ number: Int) -> [UInt8]? { key(number).withUnsafeBufferPointer { answers.find($0) } }
    keep(0)
    for number in 1...3 * CanonicalAnswers.halfMax {
      keep(number)
      if number % 100 == 0 { #expect(find(0) == [0]) }
      #expect(answers.count <= 2 * CanonicalAnswers.halfMax + 1)
    }
    #expect(find(1) == nil)
    #expect(find(3 * CanonicalAnswers.halfMax) != nil)
  }
}
