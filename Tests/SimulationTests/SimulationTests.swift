import Testing

@Suite struct Simulation {
}
