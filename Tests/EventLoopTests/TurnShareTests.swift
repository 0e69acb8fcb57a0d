import Linux
import Metrics
import Testing

@testable import EventLoop

/// Moves `appetite` bytes whenever it may, and is always ready.
private final class Mover: Pollable {
    let share: TurnShare
    let appetite: Int
    private let event: EventDescriptor
    private(set) var moved = 0
    private(set) var isDone = false

    init(_ loop: EventLoop, _ share: TurnShare, appetite: Int) throws {
        self.share = share
        self.appetite = appetite
        event = try EventDescriptor()
        super.init()
        event.signal()
        _ = try loop.register(self, event, .readable)
    }

    override func ready(_ events: Events) { move() }
    override func resumed() { move() }

    func finish() {
        isDone = true
        event.drain()
    }

    private func move() {
        guard !isDone, share.admit(self) else { return }
        let byteCount = min(appetite, share.remaining)
        share.spend(byteCount)
        moved += byteCount
    }
}

struct TurnShareTests {
    private func makeLoop(_ registry: Registry = Registry()) throws -> EventLoop {
        try EventLoop(name: "test", registry: registry)
    }

    @Test func `what a workload moves in a turn is bounded however many connections it has`() throws {
        let registry = Registry()
        let loop = try makeLoop(registry)
        let share = TurnShare(loop, byteCount: 100)
        let movers = try (0..<5).map { _ in try Mover(loop, share, appetite: 60) }
        var total = 0
        for turn in 1...50 {
            loop.turn()
            let now = movers.map(\.moved).reduce(0, +)
            #expect(now - total == 100, "turn \(turn)")
            total = now
        }
        // In turn: nobody is more than one helping ahead of anybody.
        let counts = movers.map(\.moved)
        #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 120, "\(counts)")
        #expect(registry.encode().contains("warren_loop_share_waits_total{loop=\"test\"} "))
        #expect(!registry.encode().contains("warren_loop_share_waits_total{loop=\"test\"} 0\n"))
    }

    @Test func `another workload is served in every turn, whatever its neighbour moves`() throws {
        let loop = try makeLoop()
        let (busy, quiet) = (TurnShare(loop, byteCount: 160), TurnShare(loop, byteCount: 160))
        let movers = try (0..<8).map { _ in try Mover(loop, busy, appetite: 160) }
        let other = try Mover(loop, quiet, appetite: 1)
        for turn in 1...20 {
            loop.turn()
            #expect(other.moved == turn)
            // The whole share until the loop has seen the other workload, then a sixteenth.
            #expect(movers.map(\.moved).reduce(0, +) == 160 + (turn - 1) * 10)
        }
    }

    @Test func `a workload moves a sixteenth beside another, and the whole again alone`() throws {
        let loop = try makeLoop()
        let (busy, quiet) = (TurnShare(loop, byteCount: 160), TurnShare(loop, byteCount: 160))
        let movers = try (0..<4).map { _ in try Mover(loop, busy, appetite: 160) }
        let other = try Mover(loop, quiet, appetite: 1)
        func moved(inTurns count: Int) -> Int {
            let before = movers.map(\.moved).reduce(0, +)
            for _ in 0..<count { loop.turn() }
            return movers.map(\.moved).reduce(0, +) - before
        }
        _ = moved(inTurns: 1)
        #expect(moved(inTurns: 10) == 100)
        other.finish()
        _ = moved(inTurns: 256)
        #expect(moved(inTurns: 10) == 1_600)
    }

    @Test func `who waits and has nothing left to do keeps nobody waiting`() throws {
        let loop = try makeLoop()
        let share = TurnShare(loop, byteCount: 100)
        let movers = try (0..<4).map { _ in try Mover(loop, share, appetite: 100) }
        loop.turn()
        let last = movers.first { $0.moved == 0 }
        for mover in movers where mover !== last { mover.finish() }
        loop.turn()
        #expect(last?.moved == 100)
        last?.finish()
        // Nothing is left that would keep the loop from its wait.
        loop.turn(waitingAtMost: .zero)
        loop.turn(waitingAtMost: .milliseconds(1))
        #expect(share.isEmpty && share.remaining == 100)
    }

    @Test func `a descriptor that closes is not watched any more, and its number serves another`() throws {
        let loop = try makeLoop()
        let share = TurnShare(loop)
        let probe = try Mover(loop, share, appetite: 1)
        var event: EventDescriptor? = try EventDescriptor()
        event?.signal()
        let registration = try #require(try register(loop, probe, event))
        loop.deregisterClosing(registration)
        event = nil
        probe.finish()
        loop.turn(waitingAtMost: .milliseconds(1))
        #expect(loop.registrationCount == 1)
        let next = try EventDescriptor()
        next.signal()
        _ = try loop.register(probe, next, .readable)
        #expect(loop.registrationCount == 2)
    }

    private func register(
        _ loop: EventLoop, _ pollable: Pollable, _ event: borrowing EventDescriptor?
    ) throws -> Registration? {
        switch event {
        case .some(let event): try loop.register(pollable, event, .readable)
        case .none: nil
        }
    }
}
