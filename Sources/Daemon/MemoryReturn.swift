import EventLoop
import Linux

/// Gives the system back what the start and bursts of connections have left behind: the allocator keeps it for good, in an
/// arena for each thread, and most of the program's text has run once for all.
package final class MemoryReturn {
    private let loop: EventLoop
    /// What was free when it was given back last: malloc counts it as free ever after.
    private var given = 0
    private var isReady: () -> Bool = { true }
    private lazy var timer = CallbackTimer { [unowned self] in look() }
    private lazy var startTimer = CallbackTimer { [unowned self] in lookForReadiness() }

    /// Until what the start needed can be let go of.
    private static let startInterval = Duration.milliseconds(500)
    private static let interval = Duration.seconds(10)
    /// Less than that is not worth the faults that its next use would cost.
    private static let worthwhile = 4 << 20

    package init(_ loop: EventLoop) {
        self.loop = loop
    }

    /// - Parameter isReady: whether the start is over.
    package func start(_ isReady: @escaping () -> Bool) {
        self.isReady = isReady
        loop.schedule(startTimer, after: Self.startInterval)
    }

    package func stop() {
        loop.cancel(startTimer)
        loop.cancel(timer)
    }

    private func lookForReadiness() {
        guard isReady() else { return loop.schedule(startTimer, after: Self.startInterval) }
        isReady = { true }
        returnFreeMemory()
        releaseProgramText()
        given = freeByteCount()
        loop.schedule(timer, after: Self.interval)
    }

    private func look() {
        let free = freeByteCount()
        if free > given + Self.worthwhile {
            returnFreeMemory()
            releaseProgramText()
            given = free
        } else {
            // What was used again since then is in memory again.
            given = min(given, free)
        }
        loop.schedule(timer, after: Self.interval)
    }
}
