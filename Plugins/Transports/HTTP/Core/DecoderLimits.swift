import NIOHTTP1

/// The bounds of the NIOHTTP1 decoder.
struct NIOHTTPDecoderLimits {
  var configuration = NIOHTTPDecoderLimitConfiguration()

  mutating func apply(_ limits: Limits) {
    // The target counts as a field to the decoder: one that is too long should get its own answer (414) when it can.
    configuration.maxHeaderFieldSize = max(limits.headerSizeBytesMax, limits.uriSizeBytesMax * 2)
    configuration.maxHeaderListSize = limits.headerSizeBytesMax + limits.uriSizeBytesMax
    configuration.maxHeaderFieldCount = 128
  }
}
