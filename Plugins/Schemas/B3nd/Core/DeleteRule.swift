import JSONText
import PluginAPI
import SchemaSupport

/// Who may delete, when the configuration does not say that anyone may: `owner` lets those delete who may write over a
/// record, so what is written once stays. A DELETE carries no signature; the owner of a record sends a message instead,
/// signed like any other, whose payload is `{"delete":"<the record's URI>"}`. The URI is in it because a signature says
/// nothing of where it is meant for: what was signed for one record must not delete another.
enum DeleteRule {
  /// Checks a DELETE of a record of a program with `rule`; nil: no program of this schema's.
  static func check(_ policy: DeletePolicy, _ rule: Rule?) throws(Refusal) {
    switch policy {
    case .open: return
    case .none: throw Refusal("Records are not deleted on this node.")
    case .owner:
      guard let rule else { throw Refusal("Records of a program that the node does not know are not deleted.") }
      if rule.isWriteOnce { throw Refusal("Records of this program are written once and not deleted.") }
      if rule.hasOwner {
        throw Refusal(
          "Only its owner deletes this record: by a signed message to its URI with the payload {\"delete\":\"<URI>\"}.")
      }
    }
  }

  /// Whether the payload of a message that has been verified asks for the record at `uri` to be deleted.
  static func isRequest(_ payload: JSONSlice, at uri: BorrowedBytes) -> Bool {
    var members = payload.members
    guard let (key, value) = members.next(), members.next() == nil, key.isText("delete"), value.kind == .string else {
      return false
    }
    var scratch: [UInt8] = []
    return value.withText(scratch: &scratch) { $0.elementsEqual(UnsafeRawBufferPointer(uri)) }
  }
}
