import Linux
import Log
import Synchronization

/// What the watchdog sees of a loop.
final class LoopPulse: Sendable {
    let name: String
    /// When the turn that is under way began, in monotonic nanoseconds; 0 while the loop waits for events.
    private let turnStart = Atomic<UInt64>(0)
    /// The turn that was reported last, so that each is reported once.
    private let reported = Atomic<UInt64>(0)

    init(name: String) {
        self.name = name
    }

    func beginTurn(_ now: MonotonicTime) {
        turnStart.store(now.nanoseconds, ordering: .relaxed)
    }

    func endTurn() {
        turnStart.store(0, ordering: .relaxed)
    }

    /// How long the loop has been in one turn, when that is over `limit` and was not told before.
    func overrun(_ limit: Duration, now: MonotonicTime) -> Duration? {
        let start = turnStart.load(ordering: .relaxed)
        guard start != 0, start <= now.nanoseconds, now - MonotonicTime(nanoseconds: start) >= limit,
            reported.exchange(start, ordering: .relaxed) != start
        else { return nil }
        return now - MonotonicTime(nanoseconds: start)
    }
}

/// Reports a loop that does not come back from a turn: every connection on it stands still.
final class Watchdog: Sendable {
    static let shared = Watchdog()
    static let limit = Duration.seconds(1)

    private struct WeakPulse {
        weak var pulse: LoopPulse?
    }

    private struct State {
        var pulses: [WeakPulse] = []
        var isRunning = false
    }

    private let state = Mutex(State())
    private let logger = Logger(scope: "loop")

    func watch(_ pulse: LoopPulse) {
        let mustStart = state.withLock { state in
            state.pulses.removeAll { $0.pulse == nil }
            state.pulses.append(WeakPulse(pulse: pulse))
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if mustStart, (try? Thread.start(name: "watchdog") { [self] in run() }) == nil {
            state.withLock { $0.isRunning = false }
        }
    }

    /// Looks twice a limit while there are loops, and ends after the last of them.
    private func run() {
        guard let pause = try? EventDescriptor() else { return }
        while true {
            pause.wait(milliseconds: Int32(Watchdog.limit.wholeMilliseconds / 2))
            let pulses: [LoopPulse]? = state.withLock { state in
                state.pulses.removeAll { $0.pulse == nil }
                guard state.pulses.isEmpty else { return state.pulses.compactMap { $0.pulse } }
                state.isRunning = false
                return nil
            }
            guard let pulses else { return }
            for pulse in pulses {
                if let time = pulse.overrun(Watchdog.limit, now: .now()) {
                    logger.error(
                        "a loop is stuck", ["loop": pulse.name, "milliseconds": time.wholeMilliseconds])
                }
            }
        }
    }
}
