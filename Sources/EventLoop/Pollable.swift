import Linux

/// Something that lives on one loop and is told when its descriptor is ready. Subclass it.
///
/// Bound to the thread of its loop: not Sendable, and never touched from another thread.
open class Pollable {
    /// Waits in the end-of-turn list already.
    fileprivate(set) var isQueued = false
    fileprivate var nextQueued: Pollable?
    /// Waits for its workload's share of a turn already.
    var waitsForShare = false

    public init() {}

    /// The descriptor is ready. Level-triggered: what is left undone is reported again in the next turn, so do a bounded
    /// amount of work and return, for the other connections' sake.
    open func ready(_ events: Events) {}

    /// The share that refused it has room: do what was left undone, if there is still something to do.
    open func resumed() {}

    /// The turn in which `atEndOfTurn` was asked for is ending: send what has been gathered.
    open func endOfTurn() {}
}

/// Pollables in the order in which they were added, each once at most; it takes no memory of its own.
struct PollableQueue {
    private var head: Pollable?
    private var tail: Pollable?

    var isEmpty: Bool { head == nil }

    mutating func append(_ pollable: Pollable) {
        guard !pollable.isQueued else { return }
        pollable.isQueued = true
        if let tail { tail.nextQueued = pollable } else { head = pollable }
        tail = pollable
    }

    mutating func popFirst() -> Pollable? {
        guard let first = head else { return nil }
        head = first.nextQueued
        if head == nil { tail = nil }
        first.nextQueued = nil
        first.isQueued = false
        return first
    }

    mutating func takeAll() -> PollableQueue {
        var all = PollableQueue()
        swap(&all, &self)
        return all
    }
}

/// A descriptor's place in its loop. Stale copies do no harm: a place that was given up is recognised.
public struct Registration: Equatable, Sendable {
    let slot: UInt32
    let generation: UInt32

    /// A registration that never was: updating or giving it up does nothing.
    public static let none = Registration(slot: .max, generation: 0)

    var token: UInt64 { UInt64(generation) << 32 | UInt64(slot) }
}

/// Who is watched on which descriptor. Slots are reused; a generation tells the new holder's events from the old one's.
struct RegistrationTable {
    private struct Slot {
        var generation: UInt32 = 0
        var pollable: Pollable?
        var source: DescriptorReference?
        var interest: Events = []
    }

    private var slots: ContiguousArray<Slot> = []
    private var free: ContiguousArray<UInt32> = []
    private(set) var count = 0

    mutating func add(_ pollable: Pollable, _ source: DescriptorReference, _ interest: Events) -> Registration
    {
        count += 1
        let slot: UInt32
        if let reused = free.popLast() {
            slot = reused
        } else {
            slot = UInt32(slots.count)
            slots.append(Slot())
        }
        let index = Int(slot)
        slots[index].pollable = pollable
        slots[index].source = source
        slots[index].interest = interest
        return Registration(slot: slot, generation: slots[index].generation)
    }

    /// Gives a place up; nil when it was given up before.
    mutating func remove(_ registration: Registration) -> DescriptorReference? {
        guard let index = index(of: registration), let source = slots[index].source else { return nil }
        count -= 1
        slots[index].generation &+= 1
        slots[index].pollable = nil
        slots[index].source = nil
        free.append(registration.slot)
        return source
    }

    /// Notes a new interest; nil when nothing changes.
    mutating func change(_ registration: Registration, to interest: Events) -> DescriptorReference? {
        guard let index = index(of: registration), slots[index].interest != interest else { return nil }
        slots[index].interest = interest
        return slots[index].source
    }

    /// Whom an event is for; nil when its descriptor was given up earlier in the turn.
    func pollable(for token: UInt64) -> Pollable? {
        let registration = Registration(
            slot: UInt32(truncatingIfNeeded: token), generation: UInt32(truncatingIfNeeded: token >> 32))
        return index(of: registration).flatMap { slots[$0].pollable }
    }

    private func index(of registration: Registration) -> Int? {
        let index = Int(registration.slot)
        guard index < slots.count, slots[index].generation == registration.generation else { return nil }
        return index
    }
}
