import Linux
import Metrics
import Synchronization
import Testing

@testable import EventLoop

/// A pollable that does what a test says.
private final class Probe: Pollable {
    var onReady: (Events) -> Void = { _ in }
    var onEnd: () -> Void = {}

    override func ready(_ events: Events) { onReady(events) }
    override func endOfTurn() { onEnd() }
}

struct EventLoopTests {
    private func makeLoop() throws -> EventLoop { try EventLoop(name: "test", registry: Registry()) }

    @Test func `an event reaches its pollable again until it is dealt with`() throws {
        let loop = try makeLoop()
        let event = try EventDescriptor()
        let probe = Probe()
        var calls = 0
        probe.onReady = { events in
            #expect(events == .readable)
            calls += 1
        }
        _ = try loop.register(probe, event, .readable)
        event.signal()
        loop.turn()
        loop.turn()
        event.drain()
        loop.turn(waitingAtMost: .zero)
        #expect(calls == 2)
    }

    @Test
    func
        `an event whose registration is given up earlier in the turn is dropped, also when its slot is reused`()
        throws
    {
        let loop = try makeLoop()
        let first = try EventDescriptor()
        let second = try EventDescriptor()
        let third = try EventDescriptor()
        let probes = [Probe(), Probe()]
        var registrations: [Registration] = []
        var calls: [Int] = []
        let late = Probe()
        late.onReady = { _ in Issue.record("an event of the old holder reached the new one") }
        for (index, probe) in probes.enumerated() {
            probe.onReady = { [unowned loop] _ in
                calls.append(index)
                loop.deregister(registrations[1 - index])
                loop.deregister(registrations[1 - index])
                if let registration = try? loop.register(late, third, .readable) {
                    #expect(registration.slot == registrations[1 - index].slot)
                }
            }
        }
        registrations.append(try loop.register(probes[0], first, .readable))
        registrations.append(try loop.register(probes[1], second, .readable))
        first.signal()
        second.signal()
        loop.turn()
        #expect(calls.count == 1)
        #expect(loop.registrationCount == 2)
    }

    @Test func `interest can be changed`() throws {
        let loop = try makeLoop()
        let pair = try Socket.pair()
        let probe = Probe()
        var seen: Events = []
        probe.onReady = { seen = $0 }
        let registration = try loop.register(probe, pair.first, .readable)
        loop.turn(waitingAtMost: .zero)
        #expect(seen == [])
        loop.update(registration, [.readable, .writable])
        loop.turn(waitingAtMost: .seconds(5))
        #expect(seen == .writable)
        loop.deregister(registration)
        loop.update(registration, .readable)
        loop.deregister(.none)
    }

    @Test func `the end of a turn comes once for each pollable, in the order of asking`() throws {
        let loop = try makeLoop()
        var order: [String] = []
        let (first, second) = (Probe(), Probe())
        first.onEnd = { [unowned loop] in
            order.append("first")
            if order.count < 3 { loop.atEndOfTurn(second) }
        }
        second.onEnd = { order.append("second") }
        for _ in 0..<3 {
            loop.atEndOfTurn(second)
            loop.atEndOfTurn(first)
        }
        loop.turn()
        #expect(order == ["second", "first", "second"])
    }

    @Test func `an endless end of turn does not keep other events waiting`() throws {
        let loop = try makeLoop()
        let probe = Probe()
        var count = 0
        probe.onEnd = { [unowned loop] in
            count += 1
            loop.atEndOfTurn(probe)
        }
        loop.atEndOfTurn(probe)
        loop.turn()
        let inOneTurn = count
        loop.turn()
        #expect(inOneTurn == 4 && count == 8)
        probe.onEnd = {}
        loop.turn()
    }

    @Test func `timers fire in order and can stop each other`() throws {
        let loop = try makeLoop()
        var fired: [Int] = []
        let victim = CallbackTimer { fired.append(99) }
        loop.schedule(after: .milliseconds(2)) { fired.append(2) }
        loop.schedule(after: .milliseconds(1)) { [unowned loop] in
            fired.append(1)
            loop.cancel(victim)
        }
        loop.schedule(victim, after: .milliseconds(3))
        while fired.count < 2 { loop.turn() }
        #expect(fired == [1, 2])
        #expect(loop.armedTimerCount == 0)
    }

    @Test func `messages run on the loop's thread in order, and are refused after its end`() throws {
        let thread = try EventLoop.start(name: "mail", registry: Registry())
        let received = Mutex<[Int]>([])
        for number in 0..<1_000 {
            #expect(thread.mailbox.post { _ in received.withLock { $0.append(number) } })
        }
        thread.stop()
        thread.join()
        #expect(received.withLock { $0 } == Array(0..<1_000))
        #expect(!thread.mailbox.post { _ in })
    }

    @Test func `a loop-bound value comes back through another thread`() throws {
        let thread = try EventLoop.start(name: "bound", registry: Registry())
        let answer = Mutex(0)
        thread.mailbox.post { loop in
            let bound = LoopBound(Probe())
            let mailbox = loop.mailbox
            // As a worker thread would: holds it, does not look inside, sends it back.
            let carrier = try? Thread.start(name: "carrier") {
                mailbox.post { loop in
                    _ = bound.value
                    answer.withLock { $0 = 42 }
                    loop.stop()
                }
            }
            if carrier == nil { loop.stop() }
        }
        thread.join()
        #expect(answer.withLock { $0 } == 42)
    }

    @Test func `a loop that is stuck is noticed once`() {
        let pulse = LoopPulse(name: "stuck")
        let start = MonotonicTime(nanoseconds: 1_000)
        #expect(pulse.overrun(.seconds(1), now: start) == nil)
        pulse.beginTurn(start)
        #expect(pulse.overrun(.seconds(1), now: start + .milliseconds(999)) == nil)
        #expect(pulse.overrun(.seconds(1), now: start + .seconds(2)) == .seconds(2))
        #expect(pulse.overrun(.seconds(1), now: start + .seconds(3)) == nil)
        pulse.endTurn()
        #expect(pulse.overrun(.seconds(1), now: start + .seconds(9)) == nil)
    }

    @Test func `turns and time are counted under the loop's name`() throws {
        let registry = Registry()
        let loop = try EventLoop(name: "counted", registry: registry)
        for _ in 0..<3 { loop.turn(waitingAtMost: .zero) }
        #expect(registry.encode().contains("warren_loop_turns_total{loop=\"counted\"} 3\n"))
    }
}

struct ScratchTests {
    @Test func `what a large read has touched goes back to the system`() {
        let scratch = Scratch()
        for fills in [true, false] {
            for number in 0..<3 {
                let area =
                    unsafe number == 0 ? scratch.cipher : number == 1 ? scratch.plain : scratch.outgoing
                if fills {
                    unsafe area.initializeMemory(as: UInt8.self, repeating: 1)
                } else {
                    #expect(unsafe area.allSatisfy { $0 == 0 })
                }
            }
            scratch.trim()
        }
    }
}

struct BufferPoolTests {
    @Test func `a buffer over the budget is refused and counted, and granted when another is back`() throws {
        let pool = BufferPool(budget: 65_536 + 16_384)
        let first = unsafe try #require(unsafe pool.take(.medium))
        let second = unsafe try #require(unsafe pool.take(.small))
        #expect(unsafe pool.take(.small) == nil)
        #expect(pool.refusals == 1 && pool.borrowedBytes == 81_920)
        unsafe pool.give(first)
        #expect(unsafe pool.take(.large) == nil)
        let third = unsafe try #require(unsafe pool.take(.medium))
        #expect(unsafe third.baseAddress == first.baseAddress)
        unsafe pool.give(second)
        unsafe pool.give(third)
        #expect(pool.borrowedBytes == 0 && pool.idleBytes == 81_920)
    }

    @Test func `what nobody needed between two trims goes back to the system`() throws {
        let pool = BufferPool(budget: 1 << 20)
        let buffers = unsafe try (0..<4).map { _ in unsafe try #require(unsafe pool.take(.small)) }
        unsafe buffers.forEach { unsafe pool.give($0) }
        pool.trim()
        #expect(pool.idleBytes == 4 * 16_384)
        let needed = unsafe try #require(unsafe pool.take(.small))
        unsafe pool.give(needed)
        pool.trim()
        #expect(pool.idleBytes == 16_384)
        pool.trim()
        #expect(pool.idleBytes == 0)
    }
}
