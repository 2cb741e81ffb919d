import Foundation
import Glibc
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
  let signed = (0..<10_000).map { (text: Array(payload($0).utf8), signature: signature(payload($0))) }
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

let arguments = CommandLine.arguments
switch (arguments.count, arguments.count > 1 ? arguments[1] : "") {
case (4, "sign"): try sign(Int(arguments[2]) ?? 1, into: arguments[3])
case (3, "verify"): verify(Double(arguments[2]) ?? 1)
default:
  print("usage: SignatureBenchmark sign COUNT FILE | verify SECONDS")
  exit(64)
}
