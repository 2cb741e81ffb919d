import Foundation

/// The node as `backplane status` shows it.
extension Kernel {
  /// Writes to the log what `status` shows, for when nobody can ask over the control socket. Any thread.
  public func logStatus() {
    let status = status()
    let log = context.log
    log.notice(
      "status",
      [
        "health": status.health, "generation": "\(status.generation)", "uptime_ms": "\(status.uptimeMs)",
        "slots": "\(status.slots.count)",
      ])
    for slot in status.slots {
      log.notice(
        "status of a slot",
        [
          "slot": slot.name, "plugin": slot.plugin, "version": slot.version, "generation": "\(slot.generation)",
          "state": slot.state, "in_flight": "\(slot.inFlight)", "reason": slot.message,
        ])
    }
    for note in status.notes { log.notice("status", ["note": note]) }
  }

  public struct Status: Codable, Sendable {
    public struct Slot: Codable, Sendable {
      public var name: String
      public var kind: String
      public var plugin: String
      public var version: String
      /// SHA-256 of the file that serves.
      public var content: String
      /// The generation that first published it.
      public var generation: UInt64
      public var state: String
      public var message: String
      public var inFlight: Int
      public var ports: [String: Int]
      /// Of a backend that is behind.
      public var repair: RepairReport?
      /// Of a service that may propose a configuration.
      public var proposing: Proposing?

      /// What a service has proposed.
      public struct Proposing: Codable, Sendable, Equatable {
        /// False: nothing, or nothing that was taken.
        public var isInPlace: Bool
        /// Of the reload that took it.
        public var receipt: UInt64?
        /// When it was taken: UTC, ISO 8601.
        public var at: String?

        enum CodingKeys: String, CodingKey {
          case receipt, at
          case isInPlace = "in_place"
        }
      }

      /// Of a peer.
      public var peer: PeerReport?

      enum CodingKeys: String, CodingKey {
        case name, kind, plugin, version, content, generation, state, message, ports, repair, proposing, peer
        case inFlight = "in_flight"
      }
    }

    public var pid: Int32
    public var node: String
    public var health: String
    public var generation: UInt64
    public var uptimeMs: UInt64
    public var slots: [Slot]
    public var notes: [String]
    /// Upgrades of the kernel by outcome, over all processes of the node.
    public var upgrades: [String: UInt64]
    /// Nil while nobody has subscribed for a while.
    public var feed: Feed?

    /// Subscriptions to accepted messages, and the writes that are kept for them.
    public struct Feed: Codable, Sendable, Equatable {
      public var subscriptions: Int
      public var records: Int
      public var bytes: Int
    }

    enum CodingKeys: String, CodingKey {
      case pid, node, health, generation, slots, notes, upgrades, feed
      case uptimeMs = "uptime_ms"
    }
  }
}
