import Glibc
import Testing

@testable import Kernel

@Suite struct VerifyTests {
  private func staged(_ folder: TemporaryDirectory, _ path: String) throws(Refusal) -> StagedPlugin {
    try Staging(directory: folder.file("staged")).stage(try PluginCandidate(path: path))
  }

  @Test func takesASoundPlugin() throws {
    let folder = try TemporaryDirectory()
    let path = folder.write("tiny.so", try TinyPlugin.sound.get())
    let plugin = try Verify(abi: testABI).verify(try staged(folder, path))
    #expect(plugin.manifest.id == "org.example.tiny")
    #expect(plugin.sourcePath == path)
    #expect(plugin.stagedPath == "\(folder.file("staged"))/\(plugin.contentHash).so")
    #expect(plugin.neededLibraries.contains("libc.so.6"))
    #expect(plugin.warnings.isEmpty)
  }

  @Test func namesWhatIsWrongWithTheContent() throws {
    let sound = try TinyPlugin.sound.get()
    #expect(try verdict(sound) == nil)
    #expect(try verdict(Array("#!/bin/sh\nexit 0\n".utf8))?.code == "plugin.not-elf")
    #expect(try verdict([])?.code == "plugin.incomplete")
    #expect(try verdict([])?.sentence.contains("is empty") == true)
    let cut = try verdict(Array(sound[..<(sound.count / 2)]))
    #expect(cut?.code == "plugin.incomplete")
    #expect(cut?.sentence.contains("is incomplete") == true)

    var otherMachine = sound
    otherMachine[18] = Verify.hostMachine == 183 ? 62 : 183
    let foreign = try verdict(otherMachine)
    #expect(foreign?.code == "plugin.wrong-machine")
    #expect(foreign?.sentence.contains("AArch64") == true && foreign?.sentence.contains("x86-64") == true)
    var narrow = sound
    narrow[4] = 1
    #expect(try verdict(narrow)?.code == "plugin.wrong-machine")
    var bigEndian = sound
    bigEndian[5] = 2
    #expect(try verdict(bigEndian)?.code == "plugin.wrong-machine")
    var object = sound
    object[16] = 1
    #expect(try verdict(object)?.code == "plugin.not-shared-library")
  }

  @Test func namesWhatIsWrongWithTheBuild() throws {
    #expect(try verdict(try TinyPlugin(manifest: nil).build())?.code == "plugin.manifest-missing")
    let mute = try verdict(try TinyPlugin(code: "int nothing;").build())
    #expect(mute?.code == "plugin.symbol-missing")
    #expect(mute?.sentence.contains("backplane_plugin_v1") == true)
    let tls = TinyPlugin(
      code: TinyPlugin().code
        + "__thread int counter; __attribute__((visibility(\"default\"))) int *where(void) { return &counter; }",
      flags: ["-ftls-model=initial-exec"])
    #expect(try verdict(try tls.build())?.code == "plugin.static-tls")
    #expect(try verdict(try TinyPlugin(flags: ["-Wl,-z,execstack"]).build())?.code == "plugin.executable-stack")
  }

  @Test func refusesAProgram() throws {
    let folder = try TemporaryDirectory()
    folder.write("p.c", Array("int main(void) { return 0; }".utf8))
    try run("cc", ["-pie", "-fPIE", "-o", folder.file("p.so"), folder.file("p.c")])
    #expect(try verdict(try readFile(folder.file("p.so")))?.code == "plugin.not-shared-library")
  }

  #if arch(x86_64)
  @Test func refusesTextRelocations() throws {
    // An address in code that only the loader can fill in: what a part compiled without -fPIC does.
    let plugin = TinyPlugin(
      code: TinyPlugin().code + "__asm__(\".text\\n.globl patched\\npatched: .quad backplane_plugin_v1\\n\");",
      flags: ["-Wl,-z,notext"])
    #expect(try verdict(try plugin.build())?.code == "plugin.text-relocations")
  }
  #endif

  @Test func theABIMustMatchExactly() throws {
    let sound = try TinyPlugin.sound.get()
    for abi in [Manifest.ABI(major: 0, minor: 0), .init(major: 0, minor: 2), .init(major: 1, minor: 1)] {
      let refusal = try verdict(sound, abi: abi)
      #expect(refusal?.code == "plugin.abi-mismatch")
      #expect(refusal?.sentence.contains("ABI 0.1 and this kernel has ABI \(abi)") == true)
    }
    #expect(try verdict(sound, abi: .init(major: 0, minor: 0))?.sentence.contains("update the kernel") == true)
  }

  @Test func manifestsAreBounded() throws {
    let large = TinyPlugin(manifest: TinyPlugin.manifest(", \"source\": \"\(String(repeating: "x", count: 65_536))\""))
    #expect(try verdict(try large.build())?.code == "plugin.manifest-too-large")
    let bad = try verdict(try TinyPlugin(manifest: "{\"id\": \"org.example.x\",}").build())
    #expect(bad?.code == "plugin.manifest-invalid")
  }

  @Test func filesThatOthersMayWriteAreRefused() throws {
    let folder = try TemporaryDirectory()
    let path = folder.write("tiny.so", try TinyPlugin.sound.get(), mode: 0o666)
    let verify = Verify(abi: testABI)
    let copy = try staged(folder, path)
    let refused = refusal { () throws(Refusal) in try verify.verify(copy) }
    #expect(refused?.code == "plugin.unsafe-permissions")
    #expect(refused?.sentence.contains("chmod o-w") == true)
  }

  @Test func directoriesThatOthersMayWriteAreRefused() throws {
    let folder = try TemporaryDirectory()
    let open = folder.makeDirectory("open", mode: 0o777)
    let path = "\(open)/tiny.so"
    writeFile(path, try TinyPlugin.sound.get())
    let verify = Verify(abi: testABI)
    let copy = try staged(folder, path)
    let refused = refusal { () throws(Refusal) in try verify.verify(copy) }
    #expect(refused?.code == "plugin.unsafe-permissions")
    #expect(refused?.sentence.contains(open) == true)
    // The same directory reached through a link that lies in a safe one.
    #expect(symlink(path, folder.file("link.so")) == 0)
    let linked = try staged(folder, folder.file("link.so"))
    #expect(refusal { () throws(Refusal) in try verify.verify(linked) }?.code == "plugin.unsafe-permissions")
    #expect(chmod(open, 0o1777) == 0)
    _ = try verify.verify(copy)
  }

  @Test(.enabled(if: geteuid() == 0, "only root can give a file away"))
  func filesOfStrangersAreRefused() throws {
    let folder = try TemporaryDirectory()
    let path = folder.write("tiny.so", try TinyPlugin.sound.get())
    #expect(chown(path, 54_321, 0) == 0)
    let copy = try staged(folder, path)
    let refused = refusal { () throws(Refusal) in try Verify(abi: testABI).verify(copy) }
    #expect(refused?.code == "plugin.unsafe-owner")
    #expect(refused?.sentence.contains("54321") == true)
    _ = try Verify(abi: testABI, trustedUser: 54_321).verify(copy)

    let theirs = folder.makeDirectory("theirs")
    let inside = "\(theirs)/tiny.so"
    writeFile(inside, try TinyPlugin.sound.get())
    #expect(chown(theirs, 54_321, 0) == 0)
    let second = try staged(folder, inside)
    #expect(refusal { () throws(Refusal) in try Verify(abi: testABI).verify(second) }?.code == "plugin.unsafe-owner")
  }
}
