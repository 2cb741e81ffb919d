/// The descriptors that a child process is born with.
public enum HostDescriptors {
  /// Calls, completions and the life cycle.
  public static let calls: Int32 = 3
  /// What the plugin asks and waits for.
  public static let questions: Int32 = 4
  /// What the kernel asks and waits for.
  public static let canonical: Int32 = 5
  public static let memory: Int32 = 6
  /// Where a crash is reported.
  public static let crashes: Int32 = 7

  public static let all = [calls, questions, canonical, memory, crashes]
}
