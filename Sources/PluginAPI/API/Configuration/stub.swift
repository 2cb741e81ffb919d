public struct ConfigurationProblem: Error, Sendable, Equatable { public var pointer: String; public var message: String }
public struct ConfigurationErrors: Error, Sendable { public var problems: [ConfigurationProblem] }
enum ConfigurationDecoder { static func decode<T: Decodable>(_ type: T.Type, from json: UnsafeBufferPointer<UInt8>) throws(ConfigurationErrors) -> T { fatalError() } }
