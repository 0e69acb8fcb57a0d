/// Fast random numbers without a system call each (xoshiro256**), seeded by the kernel. Not for secrets.
package struct WorkerRandomness: RandomNumberGenerator {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    package init() {
        var kernel = SystemRandomNumberGenerator()
        // A state of nothing but zeros would stay so.
        state = (kernel.next() | 1, kernel.next(), kernel.next(), kernel.next())
    }

    package mutating func next() -> UInt64 {
        let result = rotated(state.1 &* 5, 7) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = rotated(state.3, 45)
        return result
    }

    private func rotated(_ word: UInt64, _ count: UInt64) -> UInt64 { word << count | word >> (64 - count) }
}
