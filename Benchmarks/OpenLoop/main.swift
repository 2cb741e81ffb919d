import Glibc

// A load generator with a constant arrival rate. The time of a request is counted from when it ought to have been sent:
// when the server falls behind, what waits for a connection has waited (a closed loop, as wrk's, would send less and
// show nothing of it).
//
// OpenLoop PORT RATE SECONDS [CONNECTIONS [WRITES_IN_100 [RECORDS]]]
//
// Prints one JSON object. A failure is an answer other than 200, a connection that is refused, reset or closed in the
// middle of an answer, and one that is closed while idle without having been told.

guard let settings = LoadSettings(Array(CommandLine.arguments.dropFirst())) else {
  print("usage: OpenLoop PORT RATE SECONDS [CONNECTIONS [WRITES_IN_100 [RECORDS]]]")
  exit(64)
}
signal(SIGPIPE, SIG_IGN)
var load = OpenLoad(settings)
load.run()
print(load.report())
