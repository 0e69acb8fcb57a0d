import Linux
import TestSupport
import Testing

@testable import EventLoop

struct TimerWheelTests {
    private func time(_ milliseconds: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: UInt64(milliseconds) * 1_000_000)
    }

    /// Moves the wheel and says which of the timers came due.
    private func due(_ wheel: inout TimerWheel, _ milliseconds: Int, of timers: [LoopTimer]) -> [Int] {
        var list = wheel.advance(to: time(milliseconds))
        let numbers = list.compactMap { timer in timers.firstIndex { $0 === timer } }
        for timer in list { _ = wheel.takeDue(timer) }
        list.removeAll(keepingCapacity: true)
        wheel.recycle(list)
        return numbers
    }

    @Test func `a timer fires at its deadline, not before, and once`() {
        var wheel = TimerWheel(now: time(1_000))
        let timer = LoopTimer()
        wheel.arm(timer, at: time(1_010))
        #expect(wheel.wait(now: time(1_000)) == 10)
        #expect(due(&wheel, 1_009, of: [timer]).isEmpty)
        #expect(due(&wheel, 1_010, of: [timer]) == [0])
        #expect(due(&wheel, 9_999, of: [timer]).isEmpty)
        #expect(wheel.count == 0 && wheel.wait(now: time(9_999)) == -1)
    }

    @Test func `a deadline in the past fires at the next tick`() {
        var wheel = TimerWheel(now: time(1_000))
        let timer = LoopTimer()
        wheel.arm(timer, at: time(3))
        #expect(due(&wheel, 1_001, of: [timer]) == [0])
    }

    @Test func `a timer beyond a turn of the wheel waits for its round`() {
        var wheel = TimerWheel(now: time(0))
        let timer = LoopTimer()
        wheel.arm(timer, at: time(10_000))
        for step in stride(from: 1, to: 10_000, by: 997) { #expect(due(&wheel, step, of: [timer]).isEmpty) }
        #expect(due(&wheel, 10_000, of: [timer]) == [0])
    }

    @Test func `a timer moved earlier fires earlier, moved later fires later`() {
        var wheel = TimerWheel(now: time(0))
        let timers = [LoopTimer(), LoopTimer()]
        wheel.arm(timers[0], at: time(500))
        wheel.arm(timers[0], at: time(50))
        wheel.arm(timers[1], at: time(50))
        wheel.arm(timers[1], at: time(500))
        #expect(due(&wheel, 499, of: timers) == [0])
        #expect(due(&wheel, 500, of: timers) == [1])
    }

    @Test func `a disarmed timer does not fire, even when it was due already`() {
        var wheel = TimerWheel(now: time(0))
        let (first, second) = (LoopTimer(), LoopTimer())
        wheel.arm(first, at: time(5))
        wheel.arm(second, at: time(6))
        wheel.disarm(first)
        let list = wheel.advance(to: time(10))
        #expect(list.count == 1)
        wheel.disarm(second)
        #expect(!wheel.takeDue(second) && !second.isArmed)
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `agrees with a sorted list over random arming, moving and disarming`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var clock = 1_000
        var wheel = TimerWheel(now: time(clock))
        let timers = (0..<200).map { _ in LoopTimer() }
        var deadlines: [Int: Int] = [:]
        for _ in 0..<3_000 {
            let number = Int.random(in: 0..<200, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                wheel.disarm(timers[number])
                deadlines[number] = nil
            case 1, 2:
                let deadline = clock + Int.random(in: 1...20_000, using: &random)
                wheel.arm(timers[number], at: time(deadline))
                deadlines[number] = deadline
            default:
                let expected = deadlines.filter { $0.value > clock }
                #expect(expected.count == deadlines.count)
                let wait = wheel.wait(now: time(clock))
                if let next = deadlines.values.min() { #expect(wait >= 0 && Int(wait) <= next - clock) }
                clock += Int.random(in: 0...3_000, using: &random)
                let fired = Set(due(&wheel, clock, of: timers))
                #expect(fired == Set(deadlines.filter { $0.value <= clock }.keys))
                deadlines = deadlines.filter { $0.value > clock }
            }
            #expect(wheel.count == deadlines.count)
        }
    }
}
