/// A plugin of any kind that hands what it keeps in memory to its successor, so that replacing or reconfiguring it loses
/// nothing (state.h, backplane.state/1). Conform beside the kind's protocol, and say `state_version` in the manifest.
///
/// The old instance is asked for `.snapshot` while it serves, then no more writes come, then for `.rest`. Its successor
/// reads both. Both run on the instance's own executor.
public protocol HandsOverState: Plugin {
  /// The format that `exportState` writes; the manifest's `state_version`. Raise it when the format changes.
  static var stateVersion: UInt32 { get }

  /// The oldest format that `importState` reads. An older version of the plugin is gone back to only when it reads what
  /// this one writes.
  static var stateVersionOldest: UInt32 { get }

  /// Writes one phase. For `.snapshot` note from now on, by key, what changes, and write all records; calls go on
  /// meanwhile, so hold no lock across `await` and none for long. For `.rest` write what was noted: as it is now, or
  /// that it is gone. Throwing refuses the change.
  func exportState(_ phase: StatePhase, to writer: StateWriter) async throws

  /// Reads one phase, on an instance that has started and serves nobody yet. Throw `Failure.exhausted` when it does not
  /// fit the limits of this instance (name the key and both numbers), another `Failure` when the bytes make no sense.
  func importState(_ phase: StatePhase, from reader: StateReader) async throws

  /// No rest will be asked for, or it has been written: forget what was noted. Also called when nothing was. Any thread,
  /// must not block.
  func abandonState()
}

extension HandsOverState {
  public static var stateVersionOldest: UInt32 { stateVersion }
}

/// A part of a handover.
public enum StatePhase: UInt32, Sendable {
  /// All that the instance holds, while it serves.
  case snapshot = 0
  /// What has changed since the snapshot was begun.
  case rest = 1
}
