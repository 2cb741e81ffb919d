/// What the keywords of JSON Schema (drafts 4, 6 and 7) hold.
enum SchemaKeywords {
  enum Content {
    case schema
    /// A list of schemas.
    case schemas
    /// Schemas by name.
    case schemasByName
    /// Schemas by pattern.
    case schemasByPattern
    /// One schema, or a list of them.
    case items
    /// By name: a schema, or a list of names.
    case dependencies
    case pattern
    /// A number above zero.
    case divisor
    /// The name of another schema's place.
    case reference
    /// The name of this document; places are named by pointer alone.
    case identity
    case value
  }

  static let contents: [String: Content] = [
    "$schema": .value, "$id": .identity, "id": .identity, "$ref": .reference, "$comment": .value, "title": .value,
    "description": .value, "default": .value, "examples": .value, "readOnly": .value, "writeOnly": .value,
    "contentMediaType": .value, "contentEncoding": .value, "definitions": .schemasByName, "$defs": .schemasByName,
    "type": .value, "enum": .value, "const": .value, "format": .value, "allOf": .schemas, "anyOf": .schemas,
    "oneOf": .schemas, "not": .schema, "if": .schema, "then": .schema, "else": .schema, "multipleOf": .divisor,
    "maximum": .value, "exclusiveMaximum": .value, "minimum": .value, "exclusiveMinimum": .value, "maxLength": .value,
    "minLength": .value, "pattern": .pattern, "items": .items, "additionalItems": .schema, "maxItems": .value,
    "minItems": .value, "uniqueItems": .value, "contains": .schema, "maxProperties": .value, "minProperties": .value,
    "required": .value, "properties": .schemasByName, "patternProperties": .schemasByPattern,
    "additionalProperties": .schema, "dependencies": .dependencies, "propertyNames": .schema,
  ]

  /// Of drafts after 7. A schema that uses one would say more than is checked.
  static let later: Set<String> = [
    "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary", "contentSchema",
    "dependentRequired", "dependentSchemas", "maxContains", "minContains", "prefixItems", "unevaluatedItems",
    "unevaluatedProperties",
  ]

  /// Has an effect beside `$ref`.
  static let besideReference: Set<String> = ["definitions", "$defs"]
  /// Says nothing about values.
  static let annotations: Set<String> = [
    "$schema", "$id", "id", "$comment", "title", "description", "default", "examples", "readOnly", "writeOnly",
    "contentMediaType", "contentEncoding", "definitions", "$defs",
  ]
}
