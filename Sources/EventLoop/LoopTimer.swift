import Linux

/// A deadline on a loop. Make it once, arm it as often as needed: arming allocates nothing.
///
/// An armed timer is kept alive by its loop.
open class LoopTimer {
    /// Its entry in the wheel, or one of the two states below.
    fileprivate(set) var entry = LoopTimer.disarmed

    static let disarmed: Int32 = -1
    /// Its time has come in this turn and `fired` is about to be called.
    static let due: Int32 = -2

    public init() {}

    /// The deadline has passed. May arm the timer again.
    open func fired() {}

    public var isArmed: Bool { entry != LoopTimer.disarmed }
}

/// A timer that calls a closure, for whatever does not happen per event.
public final class CallbackTimer: LoopTimer {
    private let callback: () -> Void

    public init(_ callback: @escaping () -> Void) {
        self.callback = callback
    }

    public override func fired() {
        callback()
    }
}

/// A hashed timer wheel: arming and disarming cost the same however many timers there are.
///
/// One slot a millisecond; a timer beyond the wheel's turn waits in its slot for a later round. A timer moved to a later
/// deadline stays where it is until its old one comes, so that re-arming at every packet costs a store.
struct TimerWheel {
    private struct Entry {
        var timer: LoopTimer?
        var deadline: UInt64 = 0
        /// The tick at whose slot it is linked.
        var position: UInt64 = 0
        var next: Int32 = -1
        var previous: Int32 = -1
    }

    static let tick: UInt64 = 1_000_000
    private static let slotCount = 4_096

    private var entries: ContiguousArray<Entry> = []
    private var free: Int32 = -1
    private var heads = ContiguousArray<Int32>(repeating: -1, count: slotCount)
    /// One bit a slot that holds something.
    private var occupied = ContiguousArray<UInt64>(repeating: 0, count: slotCount / 64)
    private var current: UInt64
    /// No slot before this tick holds anything.
    private var earliest = UInt64.max
    private var due: ContiguousArray<LoopTimer> = []
    private(set) var count = 0

    init(now: MonotonicTime) {
        current = now.nanoseconds / TimerWheel.tick
    }

    /// Milliseconds until something may be due, -1 when nothing is armed.
    func wait(now: MonotonicTime) -> Int32 {
        guard earliest != .max else { return -1 }
        let deadline = earliest &* TimerWheel.tick
        guard deadline > now.nanoseconds else { return 0 }
        return Int32(clamping: (deadline - now.nanoseconds + TimerWheel.tick - 1) / TimerWheel.tick)
    }

    /// Arms a timer, or moves an armed one. It fires at the first tick that is not before `deadline`.
    mutating func arm(_ timer: LoopTimer, at deadline: MonotonicTime) {
        let rounded =
            deadline.nanoseconds / TimerWheel.tick + (deadline.nanoseconds % TimerWheel.tick == 0 ? 0 : 1)
        let tick = max(rounded, current + 1)
        if timer.entry >= 0 {
            let index = Int(timer.entry)
            if tick >= entries[index].position {
                entries[index].deadline = tick
                return
            }
            unlink(timer.entry)
            entries[index].deadline = tick
            link(timer.entry)
            return
        }
        timer.entry = allocate()
        entries[Int(timer.entry)].timer = timer
        entries[Int(timer.entry)].deadline = tick
        count += 1
        link(timer.entry)
    }

    mutating func disarm(_ timer: LoopTimer) {
        if timer.entry >= 0 {
            unlink(timer.entry)
            release(timer.entry)
        }
        timer.entry = LoopTimer.disarmed
    }

    /// Moves on to `now` if nothing is due by then, as in nearly every turn; else it is for `advance`.
    mutating func pass(to now: MonotonicTime) -> Bool {
        let target = now.nanoseconds / TimerWheel.tick
        guard earliest > target else { return false }
        current = max(current, target)
        return true
    }

    /// Moves on to `now` and gives the timers whose deadline has passed, in the order of their ticks.
    ///
    /// Hand the array back by `recycle`, emptied, so that the next turn needs no new one.
    mutating func advance(to now: MonotonicTime) -> ContiguousArray<LoopTimer> {
        let target = now.nanoseconds / TimerWheel.tick
        while earliest <= target {
            current = earliest
            collect(slot: Int(earliest % UInt64(TimerWheel.slotCount)))
            earliest = nextOccupied(after: current)
        }
        current = max(current, target)
        var taken: ContiguousArray<LoopTimer> = []
        swap(&taken, &due)
        return taken
    }

    mutating func recycle(_ array: consuming ContiguousArray<LoopTimer>) {
        precondition(array.isEmpty, "timers go outside of the wheel: they may disarm others")
        due = array
    }

    /// Whether a due timer is still to fire: an earlier one of the same turn may have disarmed or moved it.
    mutating func takeDue(_ timer: LoopTimer) -> Bool {
        guard timer.entry == LoopTimer.due else { return false }
        timer.entry = LoopTimer.disarmed
        return true
    }

    // MARK: Slots

    private mutating func collect(slot: Int) {
        var index = heads[slot]
        heads[slot] = -1
        occupied[slot / 64] &= ~(1 << UInt64(slot % 64))
        while index >= 0 {
            let next = entries[Int(index)].next
            if entries[Int(index)].deadline <= current {
                if let timer = entries[Int(index)].timer {
                    timer.entry = LoopTimer.due
                    due.append(timer)
                }
                release(index)
            } else {
                link(index)
            }
            index = next
        }
    }

    private mutating func link(_ index: Int32) {
        let position = entries[Int(index)].deadline
        let slot = Int(position % UInt64(TimerWheel.slotCount))
        let head = heads[slot]
        entries[Int(index)].position = position
        entries[Int(index)].previous = -1
        entries[Int(index)].next = head
        if head >= 0 { entries[Int(head)].previous = index }
        heads[slot] = index
        occupied[slot / 64] |= 1 << UInt64(slot % 64)
        // The tick at which its slot comes by next: for a timer of a later round that is before its deadline.
        let distance = (position - current - 1) % UInt64(TimerWheel.slotCount) + 1
        earliest = min(earliest, current + distance)
    }

    private mutating func unlink(_ index: Int32) {
        let entry = entries[Int(index)]
        let slot = Int(entry.position % UInt64(TimerWheel.slotCount))
        if entry.previous >= 0 {
            entries[Int(entry.previous)].next = entry.next
        } else {
            heads[slot] = entry.next
        }
        if entry.next >= 0 { entries[Int(entry.next)].previous = entry.previous }
        if heads[slot] < 0 { occupied[slot / 64] &= ~(1 << UInt64(slot % 64)) }
    }

    /// The next tick whose slot holds something; a wheel's turn has every slot once.
    private func nextOccupied(after tick: UInt64) -> UInt64 {
        let start = Int((tick + 1) % UInt64(TimerWheel.slotCount))
        var offset = 0
        while offset < TimerWheel.slotCount {
            let slot = (start + offset) % TimerWheel.slotCount
            let rest = occupied[slot / 64] >> UInt64(slot % 64)
            if rest != 0 {
                return tick + 1 + UInt64(offset + rest.trailingZeroBitCount)
            }
            offset += 64 - slot % 64
        }
        return .max
    }

    private mutating func allocate() -> Int32 {
        if free >= 0 {
            let index = free
            free = entries[Int(index)].next
            return index
        }
        entries.append(Entry())
        return Int32(entries.count - 1)
    }

    private mutating func release(_ index: Int32) {
        entries[Int(index)].timer = nil
        entries[Int(index)].next = free
        free = index
        count -= 1
    }
}
