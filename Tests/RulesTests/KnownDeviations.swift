/// The cases of Debian's json-schema-test-suite that come out otherwise, each under its reason.
enum KnownDeviations {
  static func names(_ draft: String) -> Set<String> { Set(all.flatMap { $0[draft] ?? [] }) }

  private static let all = [remote, identity, place, large, whole, remark]

  /// A `$ref` to another server is refused: nothing is fetched.
  private static let remote = combined([
    (
      ["draft4", "draft6", "draft7"],
      [
        "definitions.json: invalid definition: invalid definition schema",
        "definitions.json: valid definition: valid definition schema",
        "ref.json: remote ref, containing refs itself: remote ref invalid",
        "ref.json: remote ref, containing refs itself: remote ref valid",
        "refRemote.json: base URI change - change folder in subschema: number is valid",
        "refRemote.json: base URI change - change folder in subschema: string is invalid",
        "refRemote.json: base URI change - change folder: number is valid",
        "refRemote.json: base URI change - change folder: string is invalid",
        "refRemote.json: base URI change: base URI change ref invalid",
        "refRemote.json: base URI change: base URI change ref valid",
        "refRemote.json: fragment within remote ref: remote fragment invalid",
        "refRemote.json: fragment within remote ref: remote fragment valid",
        "refRemote.json: ref within remote ref: ref within ref invalid",
        "refRemote.json: ref within remote ref: ref within ref valid",
        "refRemote.json: remote ref: remote ref invalid",
        "refRemote.json: remote ref: remote ref valid",
        "refRemote.json: root ref in remote ref: null is valid",
        "refRemote.json: root ref in remote ref: object is invalid",
        "refRemote.json: root ref in remote ref: string is valid",
      ]
    )
  ])

  /// A `$ref` by the `$id` of another schema is refused: pointers only.
  private static let identity = combined([
    (
      ["draft4", "draft6", "draft7"],
      [
        "ref.json: Recursive references between schemas: invalid tree",
        "ref.json: Recursive references between schemas: valid tree",
      ]
    )
  ])

  /// A `$ref` to a place that is not used as a schema is refused.
  private static let place = combined([
    (
      ["draft4", "draft6", "draft7"],
      [
        "ref.json: escaped pointer ref: percent invalid",
        "ref.json: escaped pointer ref: percent valid",
        "ref.json: escaped pointer ref: slash invalid",
        "ref.json: escaped pointer ref: slash valid",
        "ref.json: escaped pointer ref: tilda invalid",
        "ref.json: escaped pointer ref: tilda valid",
      ]
    )
  ])

  /// Whole numbers beyond 64 bits are doubles, and so no integers.
  private static let large = combined([
    (
      ["draft4", "draft6", "draft7"],
      [
        "optional/bignum.json: integer: a bignum is an integer",
        "optional/bignum.json: integer: a negative bignum is an integer",
      ]
    )
  ])

  /// 1.0 is an integer, as in the drafts after 4.
  private static let whole = combined([
    (
      ["draft4"],
      [
        "optional/zeroTerminatedFloats.json: "
          + "some languages do not distinguish between different types of numeric value: a float is not an integer even without fractional part"
      ]
    )
  ])

  /// Formats but date, time and date-time, and contentEncoding, are remarks.
  private static let remark = combined([
    (
      ["draft4", "draft6", "draft7"],
      [
        "optional/ecmascript-regex.json: ECMA 262 regex non-compliance: "
          + "ECMA 262 has no support for \\Z anchor from .NET"
      ]
    ),
    (
      ["draft4", "draft6"],
      [
        "optional/format.json: validation of IP addresses: an IP address as an integer",
        "optional/format.json: validation of IP addresses: an IP address with out-of-range values",
        "optional/format.json: validation of IP addresses: an IP address with too many components",
        "optional/format.json: validation of IP addresses: an IP address without 4 components",
        "optional/format.json: validation of IPv6 addresses: an IPv6 address containing illegal characters",
        "optional/format.json: validation of IPv6 addresses: an IPv6 address with out-of-range values",
        "optional/format.json: validation of IPv6 addresses: an IPv6 address with too many components",
        "optional/format.json: validation of URIs: an invalid URI",
        "optional/format.json: validation of URIs: an invalid URI though valid URI reference",
        "optional/format.json: validation of URIs: an invalid URI with spaces",
        "optional/format.json: validation of URIs: an invalid URI with spaces and missing scheme",
        "optional/format.json: validation of URIs: an invalid protocol-relative URI Reference",
        "optional/format.json: validation of URIs: an invalid relative URI Reference",
        "optional/format.json: validation of e-mail addresses: an invalid e-mail address",
        "optional/format.json: validation of host names: a host name containing illegal characters",
        "optional/format.json: validation of host names: a host name starting with an illegal character",
        "optional/format.json: validation of host names: a host name with a component too long",
      ]
    ),
    (
      ["draft6"],
      [
        "optional/format.json: format: uri-template: an invalid uri-template",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (URI Fragment Identifier) #1",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (URI Fragment Identifier) #2",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (URI Fragment Identifier) #3",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (isn't empty nor starts with /) #1",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (isn't empty nor starts with /) #2",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (isn't empty nor starts with /) #3",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (multiple characters not escaped)",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (some escaped, but not all) #1",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (some escaped, but not all) #2",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (wrong escape character) #1",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (wrong escape character) #2",
        "optional/format.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (~ not escaped)",
        "optional/format.json: validation of URI References: an invalid URI Reference",
        "optional/format.json: validation of URI References: an invalid URI fragment",
      ]
    ),
    (
      ["draft7"],
      [
        "optional/content.json: validation of binary string-encoding: "
          + "an invalid base64 string (% is not a valid character)",
        "optional/content.json: validation of binary-encoded media type documents: "
          + "a validly-encoded invalid JSON document",
        "optional/content.json: validation of binary-encoded media type documents: "
          + "an invalid base64 string that is valid JSON",
        "optional/content.json: validation of string-encoded content based on media type: "
          + "an invalid JSON document",
        "optional/format/email.json: validation of e-mail addresses: an invalid e-mail address",
        "optional/format/hostname.json: validation of host names: a host name containing illegal characters",
        "optional/format/hostname.json: validation of host names: a host name starting with an illegal character",
        "optional/format/hostname.json: validation of host names: a host name with a component too long",
        "optional/format/idn-email.json: validation of an internationalized e-mail addresses: "
          + "an invalid idn e-mail address",
        "optional/format/idn-hostname.json: validation of internationalized host names: "
          + "a host name with a component too long",
        "optional/format/idn-hostname.json: validation of internationalized host names: "
          + "contains illegal char U+302E Hangul single dot tone mark",
        "optional/format/idn-hostname.json: validation of internationalized host names: "
          + "illegal first char U+302E Hangul single dot tone mark",
        "optional/format/ipv4.json: validation of IP addresses: an IP address as an integer",
        "optional/format/ipv4.json: validation of IP addresses: an IP address with out-of-range values",
        "optional/format/ipv4.json: validation of IP addresses: an IP address with too many components",
        "optional/format/ipv4.json: validation of IP addresses: an IP address without 4 components",
        "optional/format/ipv6.json: validation of IPv6 addresses: an IPv6 address containing illegal characters",
        "optional/format/ipv6.json: validation of IPv6 addresses: an IPv6 address with out-of-range values",
        "optional/format/ipv6.json: validation of IPv6 addresses: an IPv6 address with too many components",
        "optional/format/iri-reference.json: validation of IRI References: an invalid IRI Reference",
        "optional/format/iri-reference.json: validation of IRI References: an invalid IRI fragment",
        "optional/format/iri.json: validation of IRIs: an invalid IRI",
        "optional/format/iri.json: validation of IRIs: an invalid IRI based on IPv6",
        "optional/format/iri.json: validation of IRIs: an invalid IRI though valid IRI reference",
        "optional/format/iri.json: validation of IRIs: an invalid relative IRI Reference",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (URI Fragment Identifier) #1",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (URI Fragment Identifier) #2",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (URI Fragment Identifier) #3",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (isn't empty nor starts with /) #1",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (isn't empty nor starts with /) #2",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (isn't empty nor starts with /) #3",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (multiple characters not escaped)",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (some escaped, but not all) #1",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (some escaped, but not all) #2",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (wrong escape character) #1",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (wrong escape character) #2",
        "optional/format/json-pointer.json: validation of JSON-pointers (JSON String Representation): "
          + "not a valid JSON-pointer (~ not escaped)",
        "optional/format/regex.json: validation of regular expressions: "
          + "a regular expression with unclosed parens is invalid",
        "optional/format/relative-json-pointer.json: validation of Relative JSON Pointers (RJP): "
          + "an invalid RJP that is a valid JSON Pointer",
        "optional/format/uri-reference.json: validation of URI References: an invalid URI Reference",
        "optional/format/uri-reference.json: validation of URI References: an invalid URI fragment",
        "optional/format/uri-template.json: format: uri-template: an invalid uri-template",
        "optional/format/uri.json: validation of URIs: an invalid URI",
        "optional/format/uri.json: validation of URIs: an invalid URI though valid URI reference",
        "optional/format/uri.json: validation of URIs: an invalid URI with spaces",
        "optional/format/uri.json: validation of URIs: an invalid URI with spaces and missing scheme",
        "optional/format/uri.json: validation of URIs: an invalid protocol-relative URI Reference",
        "optional/format/uri.json: validation of URIs: an invalid relative URI Reference",
      ]
    ),
  ])

  private static func combined(_ lists: [(drafts: [String], names: [String])]) -> [String: [String]] {
    var result: [String: [String]] = [:]
    for list in lists { for draft in list.drafts { result[draft, default: []] += list.names } }
    return result
  }
}
