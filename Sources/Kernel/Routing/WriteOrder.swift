import Synchronization

/// The order of writes to nodes with several backends: a unit goes out when every earlier one that touches a URI of its
/// own has been decided. So all backends get the changes of one record in the same order, conditions are judged by what
/// all of them will have, and what one of them missed is known before the next change of the record is sent.
///
/// Units that share no URI never wait for each other.
final class WriteOrder: Sendable {
  final class Ticket: @unchecked Sendable {
    // @unchecked: the variables are only touched under the lock of its WriteOrder; `begin` is written in init.
    fileprivate let uris: [[UInt8]]
    fileprivate let begin: @Sendable () -> Void
    /// Earlier ones that are not decided.
    fileprivate var waitsFor = 0
    fileprivate var followers: [Ticket] = []

    fileprivate init(_ uris: [[UInt8]], _ begin: @escaping @Sendable () -> Void) {
      self.uris = uris
      self.begin = begin
    }
  }

  /// The last unit in line for each URI that any has.
  private let last = Mutex<[[UInt8]: Ticket]>([:])
  private let workers: WorkerPool

  /// - Parameter workers: where units go on that had to wait.
  init(_ workers: WorkerPool) { self.workers = workers }

  /// Takes a place in line. `begin` is called once, when it is this unit's turn: before this returns, or later on another
  /// thread. `finish` must follow, even when the unit has been given up meanwhile.
  func enter(_ uris: [[UInt8]], _ begin: @escaping @Sendable () -> Void) -> Ticket {
    let ticket = Ticket(uris, begin)
    let isFirst = last.withLock { last in
      for uri in uris {
        if let before = last.updateValue(ticket, forKey: uri), before !== ticket {
          // One that shares several URIs with it is waited for once for each, and counts down as often.
          before.followers.append(ticket)
          ticket.waitsFor += 1
        }
      }
      return ticket.waitsFor == 0
    }
    if isFirst { begin() }
    return ticket
  }

  /// The unit's fate is known, and what it means for each backend is on record.
  func finish(_ ticket: Ticket) {
    let ready = last.withLock { last in
      for uri in ticket.uris where last[uri] === ticket { last[uri] = nil }
      defer { ticket.followers = [] }
      return ticket.followers.filter { follower in
        follower.waitsFor -= 1
        return follower.waitsFor == 0
      }
    }
    for next in ready {
      // Elsewhere: a long line would otherwise be worked off on one stack.
      if !workers.submit(next.begin) { next.begin() }
    }
  }

  /// Places that are taken.
  var count: Int { last.withLock { $0.count } }
}
