import Synchronization

/// A number that only grows. Adding is one relaxed atomic instruction: no lock, from any thread.
public final class Counter: Sendable {
    private let storage = Atomic<UInt64>(0)

    public init() {}

    /// - Parameter amount: a negative one counts as 0; a counter never goes back.
    @inlinable
    public func add(_ amount: Int = 1) {
        if amount > 0 { increase(UInt64(amount)) }
    }

    @usableFromInline
    func increase(_ amount: UInt64) {
        storage.wrappingAdd(amount, ordering: .relaxed)
    }

    public var value: UInt64 { storage.load(ordering: .relaxed) }
}

/// A number that goes up and down.
public final class Gauge: Sendable {
    private let storage = Atomic<Int>(0)

    public init() {}

    public func set(_ value: Int) {
        storage.store(value, ordering: .relaxed)
    }

    public func add(_ amount: Int) {
        storage.wrappingAdd(amount, ordering: .relaxed)
    }

    public var value: Int { storage.load(ordering: .relaxed) }
}

/// How often values fell into each of a few ranges, and their sum.
public final class Histogram: Sendable {
    /// Upper ends of the ranges, rising; one more range goes to infinity.
    public let bounds: [Double]
    private let counters: [Counter]
    /// The bit pattern of a Double.
    private let sumBits = Atomic<UInt64>(0)

    public init(bounds: [Double]) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "a histogram's bounds rise")
        self.bounds = bounds
        counters = (0...bounds.count).map { _ in Counter() }
    }

    public func observe(_ value: Double) {
        counters[bounds.firstIndex { value <= $0 } ?? bounds.count].increase(1)
        var old = sumBits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + value).bitPattern
            let (done, current) = sumBits.weakCompareExchange(
                expected: old, desired: new, ordering: .relaxed)
            if done { return }
            old = current
        }
    }

    public var sum: Double { Double(bitPattern: sumBits.load(ordering: .relaxed)) }
    public var count: UInt64 { counters.reduce(0) { $0 &+ $1.value } }

    /// How many values were at most each bound, and in the end all.
    var cumulative: [UInt64] {
        var total: UInt64 = 0
        return counters.map { counter in
            total &+= counter.value
            return total
        }
    }

    /// 100 µs to 10 s in steps of about 2.5, for durations in seconds.
    public static let secondsBounds: [Double] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]
}
