import Synchronization

/// So many at a time and no more.
package final class Allowance: Sendable {
    package let limit: Int
    private let used = Atomic<Int>(0)

    package init(_ limit: Int) {
        self.limit = limit
    }

    /// Takes one; false when all are taken. Give it back by `release`.
    package func take() -> Bool {
        let (before, _) = used.add(1, ordering: .relaxed)
        if before < limit { return true }
        release()
        return false
    }

    package func release() {
        used.subtract(1, ordering: .relaxed)
    }

    package var inUse: Int { used.load(ordering: .relaxed) }
}

/// Calls back once so many parts have reported, on the thread of the last.
package final class Countdown: Sendable {
    private let left: Atomic<Int>
    private let done: @Sendable () -> Void

    package init(_ count: Int, _ done: @escaping @Sendable () -> Void) {
        left = Atomic(count)
        self.done = done
    }

    package func countDown() {
        if left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { done() }
    }
}

/// What several threads have said.
package final class Collection<Part: Sendable>: Sendable {
    private let list = Mutex<[Part]>([])

    package init() {}

    package func add(_ part: Part) {
        list.withLock { $0.append(part) }
    }

    package var parts: [Part] { list.withLock { $0 } }
}
