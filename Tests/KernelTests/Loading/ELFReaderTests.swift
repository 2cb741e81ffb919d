import Testing

@testable import Kernel

@Suite struct ELFReaderTests {
  static let entry = "backplane_plugin_v1"

  @Test func readsASoundPlugin() throws {
    let image = try ELFReader.read(try TinyPlugin.sound.get(), entry: Self.entry)
    #expect(image.machine == Verify.hostMachine)
    #expect(image.type == 3)
    #expect(image.exportsEntry)
    #expect(image.manifest == Array(TinyPlugin.manifest().utf8))
    #expect(image.neededLibraries.contains("libc.so.6"))
    #expect(!image.usesStaticTLS && !image.hasTextRelocations && !image.wantsExecutableStack)
    #expect(image.uniqueSymbol == nil && !image.isExecutableProgram)
  }

  @Test(arguments: [
    ["-Wl,--hash-style=sysv"], ["-Wl,--hash-style=gnu"], ["-Wl,--hash-style=both", "-s"],
    ["-fuse-ld=gold", "-Wl,--gc-sections", "-s"], ["-fuse-ld=gold", "-Wl,-z,nodelete", "-Wl,-z,defs"],
  ])
  func readsWhatEachLinkerWrites(flags: [String]) throws {
    let image = try ELFReader.read(try TinyPlugin(flags: flags).build(), entry: Self.entry)
    #expect(image.exportsEntry)
    #expect(image.manifest == Array(TinyPlugin.manifest().utf8))
  }

  @Test func fallsBackToTheSectionWhenNoSegmentHoldsTheNote() throws {
    var bytes = try TinyPlugin.sound.get()
    // Every PT_NOTE becomes PT_NULL; the section headers stay.
    for index in 0..<Int(bytes[56]) {
      let at = Int(bytes[32]) + index * 56
      if bytes[at] == 4 { bytes[at] = 0 }
    }
    #expect(try ELFReader.read(bytes, entry: Self.entry).manifest == Array(TinyPlugin.manifest().utf8))
  }

  @Test func twoManifestsAreOneTooMany() throws {
    let again = """
      __asm__(".pushsection .note.backplane,\\"a\\",%note\\n.balign 4\\n.long 10\\n.long 2\\n.long 1\\n"
              ".asciz \\"Backplane\\"\\n.balign 4\\n.ascii \\"{}\\"\\n.balign 4\\n.popsection\\n");
      """
    var plugin = TinyPlugin()
    plugin.code += again
    let bytes = try plugin.build()
    #expect(throws: ELFDefect.malformed("it carries two Backplane notes")) {
      try ELFReader.read(bytes, entry: Self.entry)
    }
  }

  @Test func seesWhatALibraryAsksFor() throws {
    let tls = TinyPlugin(
      code: TinyPlugin().code
        + "__thread int counter; __attribute__((visibility(\"default\"))) int *where(void) { return &counter; }",
      flags: ["-ftls-model=initial-exec"])
    #expect(try ELFReader.read(try tls.build(), entry: Self.entry).usesStaticTLS)
    let stack = TinyPlugin(flags: ["-Wl,-z,execstack"])
    #expect(try ELFReader.read(try stack.build(), entry: Self.entry).wantsExecutableStack)
    let unique = TinyPlugin(
      code: TinyPlugin().code
        + "__asm__(\".data\\n.globl shared\\n.type shared, %gnu_unique_object\\n.size shared, 4\\nshared: .long 1\\n.text\");"
    )
    #expect(try ELFReader.read(try unique.build(), entry: Self.entry).uniqueSymbol == "shared")
    let needy = TinyPlugin(flags: ["-Wl,--no-as-needed", "-lm"])
    #expect(try ELFReader.read(try needy.build(), entry: Self.entry).neededLibraries.contains("libm.so.6"))
  }

  @Test(arguments: [
    // Hidden, only declared, a variable, and a longer and a shorter name.
    "const void *backplane_plugin_v1(void) { return 0; }",
    "extern void *backplane_plugin_v1(void); __attribute__((visibility(\"default\"))) void *f(void) { return backplane_plugin_v1(); }",
    "__attribute__((visibility(\"default\"))) int backplane_plugin_v1 = 1;",
    "__attribute__((visibility(\"default\"))) void *backplane_plugin_v11(void) { return 0; }",
    "__attribute__((visibility(\"default\"))) void *backplane_plugin_v(void) { return 0; }",
  ])
  func anythingButAnExportedFunctionIsNoEntry(code: String) throws {
    #expect(try ELFReader.read(try TinyPlugin(code: code).build(), entry: Self.entry).exportsEntry == false)
  }

  @Test func everyTruncationIsIncomplete() throws {
    let bytes = try TinyPlugin.sound.get()
    let sizes = Array(0..<4_096) + Array(stride(from: 4_096, to: bytes.count, by: 7)) + [bytes.count - 1]
    for size in sizes where size < bytes.count {
      do {
        _ = try ELFReader.read(Array(bytes[..<size]), entry: Self.entry)
        Issue.record("a file cut off at \(size) of \(bytes.count) bytes was read")
      } catch ELFDefect.incomplete(_, let end, let actual) {
        #expect(actual == UInt64(size) && end > actual)
      }
    }
  }

  @Test func survivesFlippedBits() throws {
    let sound = try TinyPlugin.sound.get()
    var random = SeededGenerator(state: 1)
    var read = 0
    var refused = 0
    for _ in 0..<20_000 {
      var bytes = sound
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        // Mostly where the structure is: the headers at both ends.
        let place =
          switch Int.random(in: 0..<4, using: &random) {
          case 0: Int.random(in: 0..<64, using: &random)
          case 1: Int.random(in: 64..<1_024, using: &random)
          case 2: Int.random(in: (bytes.count - 2_048)..<bytes.count, using: &random)
          default: Int.random(in: 0..<bytes.count, using: &random)
          }
        bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      }
      if (try? ELFReader.read(bytes, entry: Self.entry)) == nil { refused += 1 } else { read += 1 }
    }
    // Both outcomes must occur, or the mutations test nothing.
    #expect(read > 1_000 && refused > 1_000)
  }

  @Test func survivesExtremeNumbersInEveryWord() throws {
    let sound = try TinyPlugin.sound.get()
    let extremes: [UInt64] = [
      0, 1, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, .max, .max - 15, UInt64(sound.count),
    ]
    let headersEnd = Int(sound[32]) + Int(sound[56]) * 56
    let dynamic = (0..<Int(sound[56])).map { Int(sound[32]) + $0 * 56 }.first { sound[$0] == 2 }!
    let dynamicAt = (0..<8).reduce(0) { $0 | Int(sound[dynamic + 8 + $1]) << ($1 * 8) }
    let sectionsAt = (0..<8).reduce(0) { $0 | Int(sound[40 + $1]) << ($1 * 8) }
    let places =
      Array(stride(from: 16, to: headersEnd, by: 4)) + Array(stride(from: dynamicAt, to: dynamicAt + 480, by: 8))
      + Array(stride(from: sectionsAt, to: sound.count - 7, by: 4))
    var refused = 0
    for place in places {
      for extreme in extremes {
        for width in [2, 4, 8] {
          var bytes = sound
          for index in 0..<width { bytes[place + index] = UInt8(truncatingIfNeeded: extreme >> (8 * UInt64(index))) }
          if (try? ELFReader.read(bytes, entry: Self.entry)) == nil { refused += 1 }
        }
      }
    }
    #expect(refused > 100)
  }

  @Test func survivesNoise() {
    var random = SeededGenerator(state: 2)
    for _ in 0..<5_000 {
      var bytes = (0..<Int.random(in: 0..<600, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      let start: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]
      if bytes.count > start.count { bytes.replaceSubrange(0..<start.count, with: start) }
      #expect(throws: ELFDefect.self) { try ELFReader.read(bytes, entry: Self.entry) }
    }
  }
}
