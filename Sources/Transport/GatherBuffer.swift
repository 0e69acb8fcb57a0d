import EventLoop

/// Bytes that a channel gathers during a turn, to be sealed and sent together.
///
/// Memory is borrowed from the loop with the first byte, a small buffer as long as that is enough, and given back with the
/// last: an idle channel holds none. A channel that has filled a large one gets the largest from then on, until a turn needs
/// little again, and as long as the loop has plenty: slow readers are to share the loop's budget, not to divide it up.
@safe
public struct GatherBuffer: ~Copyable {
    private let pool: BufferPool
    private var memory: UnsafeMutableRawBufferPointer?
    private var start = 0
    private var end = 0
    /// The last turn that needed a large buffer filled it.
    private var fills = false

    /// The most a channel gathers: what one send takes, and the larger the less a byte costs (RESULTS.md, Bulk through
    /// tunnels).
    public static let capacity = limit(of: BufferPool.Size.giant.rawValue)

    public init(_ pool: BufferPool) {
        self.pool = pool
    }

    deinit {
        if let memory = unsafe memory { unsafe pool.give(memory) }
    }

    public var count: Int { end - start }
    public var isEmpty: Bool { start == end }

    /// What waits, in order; valid until the next mutation.
    public var bytes: UnsafeRawBufferPointer {
        guard let memory = unsafe memory else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
        return unsafe UnsafeRawBufferPointer(rebasing: memory[start..<end])
    }

    /// The free part behind what waits; valid until the next mutation.
    public var room: UnsafeMutableRawBufferPointer {
        guard let memory = unsafe memory else {
            return unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
        }
        return unsafe UnsafeMutableRawBufferPointer(rebasing: memory[end..<Self.limit(of: memory.count)])
    }

    /// Tries to have room for `wanted` bytes; there may be less, for capacity and the loop's budget are bounded.
    ///
    /// - Parameter isUrgent: frames without which the connection cannot live or end; they get a small buffer at least.
    public mutating func makeRoom(_ wanted: Int, isUrgent: Bool = false) {
        guard let held = unsafe memory else {
            let size: BufferPool.Size = wanted <= BufferPool.Size.small.rawValue ? .small : larger
            unsafe memory = pool.take(size) ?? (isUrgent ? pool.takeAlways(.small) : nil)
            return
        }
        if Self.limit(of: held.count) - end >= wanted { return }
        if held.count == BufferPool.Size.small.rawValue, let other = unsafe pool.take(larger) {
            unsafe other.copyMemory(from: bytes)
            unsafe pool.give(held)
            unsafe memory = other
        } else if start > 0 {
            unsafe held.copyMemory(from: bytes)
        } else {
            return
        }
        end -= start
        start = 0
    }

    private var larger: BufferPool.Size { fills && pool.isAmple ? .giant : .huge }

    /// Of a large buffer a little stays free, so that as records the bytes still fit into a block of that size, and not into
    /// one of twice the size: 22 bytes for each 16 KiB.
    private static func limit(of byteCount: Int) -> Int {
        byteCount == BufferPool.Size.small.rawValue ? byteCount : byteCount - byteCount / 512
    }

    /// Adds bytes that were written to `room`.
    public mutating func append(_ byteCount: Int) {
        unsafe precondition(
            byteCount >= 0 && byteCount <= room.count, "more bytes gathered than there is room")
        end += byteCount
    }

    /// Forgets bytes that were sealed or sent.
    public mutating func removeFirst(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= count, "more bytes sent than gathered")
        start += byteCount
        if start == end { giveBack() }
    }

    /// Gives the memory back when nothing is in it.
    public mutating func giveBack() {
        guard start == end, let held = unsafe memory else { return }
        if held.count > BufferPool.Size.small.rawValue { fills = end > BufferPool.Size.large.rawValue }
        unsafe pool.give(held)
        unsafe memory = nil
        (start, end) = (0, 0)
    }

    /// Forgets everything.
    public mutating func clear() {
        start = end
        giveBack()
    }
}
