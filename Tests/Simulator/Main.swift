#if SIMULATION
import Glibc
import SimulatedSystem

/// Runs seeds, each in a process of its own, and says which failed.
///
///     simulator [--seed N] [--runs COUNT] [--seconds MAX] [--steps COUNT] [--jobs COUNT] [--trace] [--defect NAME]
@main
enum Main {
  static func main() {
    // Dictionaries go through their entries in an order that depends on this.
    if getenv("SWIFT_DETERMINISTIC_HASHING") == nil {
      setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
      let arguments = CommandLine.arguments.map { strdup($0) } + [nil]
      execv("/proc/self/exe", arguments)
    }
    let arguments = Arguments(CommandLine.arguments.dropFirst())
    Defect.present = arguments.defect
    if arguments.trace {
      Report.isTraced = true
      let outcome = Simulation.run(seed: arguments.seed, steps: arguments.steps)
      print("\(outcome)")
      exit(0)
    }
    Runner(arguments).run()
  }
}

struct Arguments {
  var seed: UInt64 = 1
  var runs = 100
  var steps: Int?
  var jobs = 1
  var secondsMax = 0
  var trace = false
  var defect: Defect?

  init(_ arguments: ArraySlice<String>) {
    var rest = Array(arguments)
    func number(_ name: String) -> Int {
      guard !rest.isEmpty, let number = Int(rest.removeFirst()), number >= 0 else {
        Report.write("\(name) needs a number")
        exit(64)
      }
      return number
    }
    while !rest.isEmpty {
      let name = rest.removeFirst()
      switch name {
      case "--seed": seed = UInt64(number(name))
      case "--runs": runs = number(name)
      case "--steps": steps = number(name)
      case "--jobs": jobs = max(1, number(name))
      case "--seconds": secondsMax = number(name)
      case "--trace": trace = true
      case "--defect": defect = rest.isEmpty ? nil : Defect(rawValue: rest.removeFirst())
      default:
        Report.write(
          "usage: simulator [--seed N] [--runs COUNT] [--seconds MAX] [--steps COUNT] [--jobs COUNT] [--trace] [--defect NAME]"
        )
        exit(64)
      }
    }
  }
}
#else
@main
enum Main {
  static func main() { print("The simulator needs the kernel's insides: build it with scripts/simulate.") }
}
#endif
