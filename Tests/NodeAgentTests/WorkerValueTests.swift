import Daemon
import Testing

@testable import NodeAgent

struct AllowanceTests {
    @Test func `gives so many at a time and no more`() {
        let allowance = Allowance(2)
        #expect(allowance.take() && allowance.take())
        #expect(!allowance.take())
        #expect(allowance.inUse == 2)
        allowance.release()
        #expect(allowance.take())
    }
}

struct WorkerRandomnessTests {
    @Test func `two workers do not choose alike`() {
        var (one, other) = (WorkerRandomness(), WorkerRandomness())
        #expect((0..<4).map { _ in one.next() } != (0..<4).map { _ in other.next() })
    }

    @Test func `every bit comes up about half of the time`() {
        var random = WorkerRandomness()
        var counts = [Int](repeating: 0, count: 64)
        for _ in 0..<10_000 {
            let word = random.next()
            for bit in 0..<64 where word >> UInt64(bit) & 1 == 1 { counts[bit] += 1 }
        }
        #expect(counts.allSatisfy { (4_500...5_500).contains($0) })
    }
}
