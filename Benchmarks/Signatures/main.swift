import Foundation
import Glibc
import JSONText
import MessageCrypto
import SodiumShim

// Signed messages for a load generator, and what verifying them costs libsodium alone.
//
//   SignatureBenchmark sign COUNT FILE     writes the bodies of COUNT receive requests, one a line
//   SignatureBenchmark verify SECONDS      verifies the same signatures over the same texts, on one thread
//
// One owner, 200-byte payloads. The keys and texts are the same in both.

let owner = Ed25519.KeyPair(seed: [UInt8](repeating: 7, count: 32).withUnsafeBytes { SecretBytes(copying: $0) })!

/// 200 bytes, as JavaScript prints them: what is signed.
func payload(_ number: Int) -> String {
  let head = "{\"n\":\(1_000_000_000 + number),\"text\":\""
  return head + String(repeating: "x", count: 200 - head.utf8.count - 2) + "\"}"
}

func signature(_ payload: String) -> [UInt8] {
  Array(payload.utf8).withUnsafeBytes { owner.sign($0) }
}

func clockNs(_ clock: clockid_t) -> Double {
  var time = timespec()
  clock_gettime(clock, &time)
  return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
}

func sign(_ count: Int, into path: String) throws {
  var text = ""
  for number in 0..<count {
    let payload = payload(number)
    text += "{\"tx\":[\"mutable://accounts/\(owner.publicKeyHex)/record-\(number)\","
    text +=
      "{\"auth\":[{\"pubkey\":\"\(owner.publicKeyHex)\",\"signature\":\"\(Hexadecimal.text(signature(payload)))\"}],"
    text += "\"payload\":\(payload)}]}\n"
  }
  try text.write(toFile: path, atomically: false, encoding: .utf8)
}

/// Prints verifications a second and the processor time of one, in microseconds.
func verify(_ seconds: Double) {
  let signed = (0..<1_000).map { (text: Array(payload($0).utf8), signature: signature(payload($0))) }
  let beginNs = clockNs(CLOCK_MONOTONIC)
  let beginCPUNs = clockNs(CLOCK_THREAD_CPUTIME_ID)
  var count = 0
  while clockNs(CLOCK_MONOTONIC) - beginNs < seconds * 1e9 {
    for _ in 0..<100 {
      let (text, signature) = signed[count % signed.count]
      let status = crypto_sign_verify_detached(signature, text, UInt64(text.count), owner.publicKey)
      precondition(status == 0, "a signature of our own is not valid")
      count += 1
    }
  }
  let elapsedNs = clockNs(CLOCK_MONOTONIC) - beginNs
  let cpuNs = clockNs(CLOCK_THREAD_CPUTIME_ID) - beginCPUNs
  print("{\"rate\":\(Double(count) / elapsedNs * 1e9),\"cpu_us\":\(cpuNs / Double(count) / 1e3)}")
}

/// TEMP
func message(_ seconds: Double) {
  let texts = (0..<1_000).map { n -> [UInt8] in
    let payload = payload(n)
    return Array("{\"auth\":[{\"pubkey\":\"\(owner.publicKeyHex)\",\"signature\":\"\(Hexadecimal.text(signature(payload)))\"}],\"payload\":\(payload)}".utf8)
  }
  let key = Array(owner.publicKeyHex.utf8)
  func time(_ name: String, _ body: ([UInt8]) -> Bool) {
    var count = 0
    let begin = clockNs(CLOCK_THREAD_CPUTIME_ID)
    while clockNs(CLOCK_THREAD_CPUTIME_ID) - begin < seconds * 1e9 {
      for _ in 0..<100 { precondition(body(texts[count % 1000])); count += 1 }
    }
    print(name, (clockNs(CLOCK_THREAD_CPUTIME_ID) - begin) / Double(count) / 1e3)
  }
  for _ in 0..<2 {
    time("scan") { text in text.withUnsafeBytes { if case .success = JSONScanner().scan($0) { true } else { false } } }
    time("find") { text in text.withUnsafeBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return false }
      return try! AuthenticatedMessage.find(in: value) != nil } }
    time("signing") { text in text.withUnsafeBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return false }
      return try! CanonicalText.signing(AuthenticatedMessage.find(in: value)!.payload).count == 200 } }
    time("verifies") { text in text.withUnsafeBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return false }
      return try! AuthenticatedMessage.find(in: value)!.verifies(by: key.withUnsafeBytes { $0 }) } }
    verify(seconds)
  }
}

let arguments = CommandLine.arguments
switch (arguments.count, arguments.count > 1 ? arguments[1] : "") {
case (4, "sign"): try sign(Int(arguments[2]) ?? 1, into: arguments[3])
case (3, "message"): message(Double(arguments[2]) ?? 1)
case (3, "verify"): verify(Double(arguments[2]) ?? 1)
default:
  print("usage: SignatureBenchmark sign COUNT FILE | verify SECONDS")
  exit(64)
}
