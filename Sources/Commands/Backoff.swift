/// How long to wait before a program that ended is started again: twice as long each time, up to a limit, and from the
/// beginning once it has run for a while.
struct Backoff: Equatable {
    static let first = Duration.milliseconds(100)
    static let longest = Duration.seconds(10)
    /// A run that lasted so long was no failure to start.
    static let forgiven = Duration.seconds(10)

    private var next = Backoff.first

    /// The wait after a run of this length.
    mutating func wait(afterRunOf length: Duration) -> Duration {
        if length >= Self.forgiven { next = Self.first }
        defer { next = min(next * 2, Self.longest) }
        return next
    }
}
