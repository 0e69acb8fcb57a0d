import Linux
import Log
import Metrics

/// One thread's readiness loop: descriptors, timers, messages from other threads, and the memory of its connections.
///
/// Used on its own thread only; other threads reach it through `mailbox`. A turn is: events, timers, messages, then the
/// end-of-turn list, in which connections send what the turn has gathered. In the steady state a turn allocates nothing and
/// calls no closure.
public final class EventLoop {
    public struct Configuration: Sendable {
        /// Bytes that the loop's connections may borrow at once.
        public var bufferBudget = 256 << 20
        /// Events taken from the kernel in one turn.
        public var eventsPerTurn = 256
        /// Pipes that the loop's connections may borrow at once.
        public var pipeLimit = 64

        public init(bufferBudget: Int = 256 << 20, eventsPerTurn: Int = 256, pipeLimit: Int = 64) {
            self.bufferBudget = bufferBudget
            self.eventsPerTurn = eventsPerTurn
            self.pipeLimit = pipeLimit
        }
    }

    public let name: String
    public let mailbox: Mailbox
    public let buffers: BufferPool
    public let scratch = Scratch()
    public let pipes: PipePool
    /// The time at which this turn began: read once a turn, for a system call per use would add up.
    public private(set) var now: MonotonicTime
    /// Turns begun.
    private(set) var turnCount: UInt64 = 0

    private let epoll: Epoll
    private var registrations = RegistrationTable()
    private var wheel: TimerWheel
    private var ending = PollableQueue()
    /// Shares for which somebody waits.
    private var shares: ContiguousArray<TurnShare> = []
    private var spareShares: ContiguousArray<TurnShare> = []
    /// Whose share was used last, and the last turn of those in which it counts that it was another's before.
    private var lastUser: ObjectIdentifier?
    private var sharedUntil: UInt64 = 0
    private var spareMessages: [Mailbox.Message] = []
    private var isStopping = false
    private let pulse: LoopPulse
    private let metrics: LoopMetrics
    private let logger = Logger(scope: "loop")
    private lazy var trimTimer = CallbackTimer { [unowned self] in trim() }

    private static let wakeUpToken = UInt64.max
    /// How often the end-of-turn list may refill itself before the rest waits for the next turn.
    private static let endingRounds = 4
    /// Turns for which a workload counts as there after it has moved something.
    private static let sharedTurns: UInt64 = 256
    private static let trimInterval = Duration.seconds(5)

    public init(
        name: String, _ configuration: Configuration = Configuration(), registry: Registry = .shared
    ) throws(SystemCallError) {
        self.name = name
        mailbox = try Mailbox()
        epoll = try Epoll(capacity: configuration.eventsPerTurn)
        buffers = BufferPool(budget: configuration.bufferBudget)
        pipes = PipePool(limit: configuration.pipeLimit)
        now = .now()
        wheel = TimerWheel(now: now)
        pulse = LoopPulse(name: name)
        metrics = LoopMetrics(loop: name, registry)
        try epoll.add(mailbox.wakeUp.reference, .readable, token: EventLoop.wakeUpToken)
    }

    // MARK: Descriptors

    /// Watches a descriptor. Give the registration up (`deregister`) before the descriptor closes.
    public func register(
        _ pollable: Pollable, _ source: borrowing some EventSource & ~Copyable, _ interest: Events
    ) throws(SystemCallError) -> Registration {
        let reference = source.reference
        let registration = registrations.add(pollable, reference, interest)
        do {
            try epoll.add(reference, interest, token: registration.token)
        } catch {
            _ = registrations.remove(registration)
            throw error
        }
        return registration
    }

    /// Changes what a descriptor is watched for; nothing happens when that is what it is watched for already.
    public func update(_ registration: Registration, _ interest: Events) {
        guard let source = registrations.change(registration, to: interest) else { return }
        do {
            try epoll.modify(source, interest, token: registration.token)
        } catch {
            logger.limited(.seconds(10), .error, "cannot change what is watched", ["error": "\(error)"])
        }
    }

    /// Stops watching a descriptor; events of this turn that were on their way are dropped too.
    public func deregister(_ registration: Registration) {
        guard let source = registrations.remove(registration) else { return }
        do {
            try epoll.remove(source)
        } catch {
            logger.limited(.seconds(10), .error, "cannot stop watching", ["error": "\(error)"])
        }
    }

    /// Stops watching a descriptor that its owner closes now: the kernel stops by itself then, so that it need not be asked.
    ///
    /// Not for one that stays open, here or as a duplicate elsewhere: it would be reported for ever.
    public func deregisterClosing(_ registration: Registration) {
        _ = registrations.remove(registration)
    }

    /// Calls the pollable's `endOfTurn` once when this turn ends, in the order of the first request.
    ///
    /// Asked for from within `endOfTurn` it comes in this turn still, or in the next one when that goes on and on.
    public func atEndOfTurn(_ pollable: Pollable) {
        ending.append(pollable)
    }

    // MARK: Timers

    /// Arms a timer, or moves an armed one, to `delay` after this turn's beginning; 1 ms at least.
    public func schedule(_ timer: LoopTimer, after delay: Duration) {
        wheel.arm(timer, at: now + delay)
    }

    /// Disarms a timer; one that is not armed stays so.
    public func cancel(_ timer: LoopTimer) {
        wheel.disarm(timer)
    }

    /// Calls a closure after `delay`, unless the timer is cancelled before.
    @discardableResult
    public func schedule(after delay: Duration, _ body: @escaping () -> Void) -> LoopTimer {
        let timer = CallbackTimer(body)
        schedule(timer, after: delay)
        return timer
    }

    // MARK: Turns

    /// Turns until `stop`; then messages are refused.
    public func run() {
        Watchdog.shared.watch(pulse)
        schedule(trimTimer, after: EventLoop.trimInterval)
        var end = MonotonicTime.now()
        while !isStopping { end = turn(from: end, waitingAtMost: nil) }
        cancel(trimTimer)
        mailbox.close()
    }

    /// Ends `run` after this turn.
    public func stop() {
        isStopping = true
    }

    /// One turn. `run` calls it again and again; tests that own the loop's thread call it themselves.
    ///
    /// - Parameter limit: the longest wait for an event; nil for as long as it takes.
    public func turn(waitingAtMost limit: Duration? = nil) {
        _ = turn(from: .now(), waitingAtMost: limit)
    }

    /// - Parameter start: what the clock shows.
    /// - Returns: what it shows at the end.
    private func turn(from start: MonotonicTime, waitingAtMost limit: Duration?) -> MonotonicTime {
        var milliseconds = ending.isEmpty && shares.isEmpty ? wheel.wait(now: start) : 0
        if let limit {
            let most = Int32(clamping: max(0, limit.wholeMilliseconds))
            milliseconds = milliseconds < 0 ? most : min(milliseconds, most)
        }
        let count = epoll.wait(milliseconds: milliseconds)
        now = .now()
        turnCount &+= 1
        pulse.beginTurn(now)
        // Before the events: who waits was first.
        if !shares.isEmpty { resumeShares() }
        var hasMail = false
        for index in 0..<count {
            let event = epoll[index]
            if event.token == EventLoop.wakeUpToken {
                hasMail = true
            } else {
                registrations.pollable(for: event.token)?.ready(event.events)
            }
        }
        fireTimers()
        if hasMail { readMail() }
        endTurn()
        metrics.turns.add()
        let end = MonotonicTime.now()
        metrics.busy.add(Int(clamping: end.nanoseconds &- now.nanoseconds))
        pulse.endTurn()
        return end
    }

    /// Whether more than one workload has moved bytes lately.
    var isShared: Bool { turnCount < sharedUntil }

    /// A workload moves bytes in this turn.
    func noteUse(by share: TurnShare) {
        let user = ObjectIdentifier(share)
        if let lastUser, lastUser != user { sharedUntil = turnCount &+ Self.sharedTurns }
        lastUser = user
    }

    /// Serves those who wait for a share when the next turn begins.
    func resumeNextTurn(_ share: TurnShare) {
        metrics.shareWaits.add()
        if !shares.contains(where: { $0 === share }) { shares.append(share) }
    }

    private func resumeShares() {
        var resumed: ContiguousArray<TurnShare> = []
        swap(&resumed, &spareShares)
        swap(&resumed, &shares)
        for share in resumed {
            share.resume()
            if !share.isEmpty, !shares.contains(where: { $0 === share }) { shares.append(share) }
        }
        resumed.removeAll(keepingCapacity: true)
        spareShares = resumed
    }

    private func fireTimers() {
        if wheel.pass(to: now) { return }
        var due = wheel.advance(to: now)
        for timer in due where wheel.takeDue(timer) { timer.fired() }
        // Emptied outside of the wheel: what a timer held may disarm others when it goes.
        due.removeAll(keepingCapacity: true)
        wheel.recycle(due)
    }

    private func readMail() {
        var messages = mailbox.take(leaving: spareMessages)
        spareMessages = []
        metrics.mailboxDepth.set(messages.count)
        for message in messages { message(self) }
        messages.removeAll(keepingCapacity: messages.count <= 1_024)
        spareMessages = messages
    }

    private func endTurn() {
        var rounds = 0
        while !ending.isEmpty, rounds < EventLoop.endingRounds {
            rounds += 1
            // What `endOfTurn` asks for comes in the next round.
            var round = ending.takeAll()
            while let pollable = round.popFirst() { pollable.endOfTurn() }
        }
    }

    private func trim() {
        buffers.trim()
        scratch.trim()
        pipes.trim()
        metrics.registrations.set(registrations.count)
        metrics.borrowedBytes.set(buffers.borrowedBytes)
        metrics.idleBytes.set(buffers.idleBytes)
        metrics.pipes.set(pipes.lentCount + pipes.idleCount)
        metrics.timers.set(wheel.count)
        schedule(trimTimer, after: EventLoop.trimInterval)
    }

    /// How many descriptors are watched; for dumps and tests.
    public var registrationCount: Int { registrations.count }
    /// How many timers are armed; for dumps and tests.
    public var armedTimerCount: Int { wheel.count }
}

/// What a loop counts, each series labelled with the loop's name.
private struct LoopMetrics {
    let turns: Counter
    let busy: Counter
    let mailboxDepth: Gauge
    let registrations: Gauge
    let borrowedBytes: Gauge
    let idleBytes: Gauge
    let pipes: Gauge
    let timers: Gauge
    let shareWaits: Counter

    init(loop: String, _ registry: Registry) {
        let label = ["loop"]
        turns = registry.counters("warren_loop_turns", "Turns of an event loop.", labels: label).with(loop)
        busy = registry.counters(
            "warren_loop_busy_seconds", "Time an event loop spent outside of its wait.", labels: label,
            scale: 1e-9
        ).with(loop)
        mailboxDepth = registry.gauges(
            "warren_loop_mailbox_depth", "Messages taken from the mailbox in one turn, last seen.",
            labels: label
        ).with(loop)
        registrations = registry.gauges(
            "warren_loop_descriptors", "Descriptors that an event loop watches.", labels: label
        ).with(loop)
        borrowedBytes = registry.gauges(
            "warren_loop_buffer_bytes", "Bytes that connections of a loop have borrowed.", labels: label
        ).with(loop)
        idleBytes = registry.gauges(
            "warren_loop_idle_buffer_bytes", "Bytes a loop keeps for the next borrower.", labels: label
        ).with(loop)
        pipes = registry.gauges(
            "warren_loop_pipes",
            "Pipes of an event loop, two descriptors each, for bytes that are not copied.",
            labels: label
        ).with(loop)
        timers = registry.gauges("warren_loop_timers", "Armed timers of a loop.", labels: label).with(loop)
        shareWaits = registry.counters(
            "warren_loop_share_waits",
            "Times that a connection waited because its workload had moved its share of a turn.",
            labels: label
        ).with(loop)
    }
}
