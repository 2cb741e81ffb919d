import JSONText
import NIOCore
import PluginAPI
import TransportSupport

/// One request that the node is working on. Made on the loop, used there, and used again for another.
final class NodeCall: @unchecked Sendable {
  // @unchecked: confined to the connection's event loop; a completion on another thread reads `connection` only, which is
  // set before the call is submitted and cleared after its completion.
  var connection: WebSocketConnection?
  var kind = RequestKind.unknown
  var token: bp_token = 0
  /// Place in `connection.calls`.
  var index = -1
  /// Within the function that submits it: a completion now is answered there and then, from the message itself.
  var isSubmitting = false
  var completedInline = false
  /// While `isSubmitting`, in the message. `uri` is the inside of a JSON string, as the client wrote it.
  var idView = UnsafeRawBufferPointer(start: nil, count: 0)
  var uriView = UnsafeRawBufferPointer(start: nil, count: 0)
  private var idBytes: [UInt8] = []
  private var uriBytes: [UInt8] = []
  /// Of a readMulti: its URIs are looked at again for the answer.
  var message: ByteBuffer?

  /// The id, as the client wrote it: one JSON value.
  func withID<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    isSubmitting ? body(idView) : idBytes.withUnsafeBytes(body)
  }

  func withURI<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    isSubmitting ? body(uriView) : uriBytes.withUnsafeBytes(body)
  }

  /// Copies what the answer needs: the message goes.
  func keep() {
    idBytes.replaceSubrange(0..<idBytes.count, with: idView)
    uriBytes.replaceSubrange(0..<uriBytes.count, with: uriView)
    isSubmitting = false
  }

  func clear() {
    connection = nil
    token = 0
    index = -1
    isSubmitting = false
    completedInline = false
    message = nil
    if idBytes.capacity > 256 { idBytes = [] }
    if uriBytes.capacity > 8192 { uriBytes = [] }
  }
}
