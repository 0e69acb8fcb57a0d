/// Sealed bytes that wait for the socket.
///
/// Its memory is borrowed while something waits, and given back with the last byte: an idle session holds none.
@safe
public final class CipherOutput {
    private let memory: CipherMemory
    private let limit: Int
    private var block: UnsafeMutableRawBufferPointer?
    private var start = 0
    private var end = 0

    init(memory: CipherMemory, limit: Int) {
        self.memory = memory
        self.limit = limit
    }

    deinit {
        if let block = unsafe block { unsafe memory.giveBack(block) }
    }

    /// How many bytes wait.
    public var count: Int { end - start }
    public var isEmpty: Bool { start == end }
    /// Bytes of the memory that holds them.
    public var heldByteCount: Int { unsafe block?.count ?? 0 }

    /// What waits, in order. Valid until the next call to the session or to `removeFirst`.
    public var bytes: UnsafeRawBufferPointer {
        guard let block = unsafe block else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
        return unsafe UnsafeRawBufferPointer(rebasing: block[start..<end])
    }

    /// Forgets bytes that the socket has taken.
    public func removeFirst(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= count, "more bytes were sent than waited")
        start += byteCount
        if start == end { clear() }
    }

    /// Forgets everything, for a session that is given up.
    func clear() {
        if let held = unsafe block { unsafe memory.giveBack(held) }
        unsafe block = nil
        (start, end) = (0, 0)
    }

    /// Makes room for bytes that are about to come, so that a long write moves nothing twice.
    ///
    /// - Returns: false when the limit forbids.
    func reserve(_ byteCount: Int) -> Bool {
        guard byteCount <= limit - count else { return false }
        let capacity = unsafe block?.count ?? 0
        if byteCount <= capacity - end { return true }
        let waiting = count
        if let held = unsafe block, waiting + byteCount <= capacity, start >= waiting {
            unsafe UnsafeMutableRawBufferPointer(rebasing: held[0..<waiting]).copyMemory(from: bytes)
        } else {
            let larger = unsafe memory.borrow(atLeast: waiting + byteCount)
            if let held = unsafe block {
                unsafe larger.copyMemory(from: bytes)
                unsafe memory.giveBack(held)
            }
            unsafe block = unsafe larger
        }
        (start, end) = (0, waiting)
        return true
    }

    /// The free part behind what waits: at least what was last reserved.
    var room: UnsafeMutableRawBufferPointer {
        guard let block = unsafe block else {
            return unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
        }
        return unsafe UnsafeMutableRawBufferPointer(rebasing: block[end...])
    }

    /// Adds bytes that were written to `room`.
    func append(_ byteCount: Int) {
        unsafe precondition(byteCount >= 0 && byteCount <= room.count, "more bytes sealed than reserved")
        end += byteCount
    }

    func append(_ source: UnsafeRawBufferPointer) -> Bool {
        guard reserve(source.count) else { return false }
        unsafe room.copyMemory(from: source)
        end += source.count
        return true
    }
}

/// Blocks of memory for bytes on their way, kept for the next session of the same loop: last in, first out, so still in the cache.
@safe
final class CipherMemory {
    /// One list of free blocks a size, sizes being powers of two.
    private var free: [[UnsafeMutableRawBufferPointer]]
    private var kept = 0
    /// Bytes of blocks that are lent.
    private(set) var borrowedByteCount = 0
    private let keptLimit: Int
    private static let smallest = 12

    /// - Parameter keptLimit: bytes of free blocks that are not returned to the system.
    init(keptLimit: Int) {
        self.keptLimit = keptLimit
        unsafe free = unsafe Array(repeating: [], count: 64)
    }

    deinit {
        unsafe free.forEach { unsafe $0.forEach { unsafe $0.deallocate() } }
    }

    /// Bytes of free blocks.
    var keptByteCount: Int { kept }

    func borrow(atLeast byteCount: Int) -> UnsafeMutableRawBufferPointer {
        let power = max(Self.smallest, Int.bitWidth - (max(1, byteCount) - 1).leadingZeroBitCount)
        borrowedByteCount += 1 << power
        if let block = unsafe free[power].popLast() {
            kept -= block.count
            return unsafe block
        }
        return .allocate(byteCount: 1 << power, alignment: 64)
    }

    func giveBack(_ block: UnsafeMutableRawBufferPointer) {
        borrowedByteCount -= block.count
        guard kept + block.count <= keptLimit else { return unsafe block.deallocate() }
        kept += block.count
        unsafe free[block.count.trailingZeroBitCount].append(block)
    }
}
