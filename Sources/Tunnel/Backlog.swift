import EventLoop
import Linux

/// Bytes that a socket has not taken yet, in order, in memory borrowed from the loop while there are any.
///
/// Its size is bounded by whoever fills it: a stream's window, or a single read. Its memory counts against the loop's
/// budget.
@safe
public struct Backlog: ~Copyable {
    @safe
    private struct Chunk {
        var buffer: UnsafeMutableRawBufferPointer
        var start = 0
        var end = 0
    }

    private let pool: BufferPool
    private var chunks: ContiguousArray<Chunk> = []
    /// Chunks before it are empty and given back.
    private var first = 0
    /// How many bytes wait.
    public private(set) var byteCount = 0

    public init(pool: BufferPool) { self.pool = pool }

    deinit {
        chunks[first...].forEach { unsafe pool.give($0.buffer) }
    }

    public var isEmpty: Bool { byteCount == 0 }

    /// Copies bytes behind those that wait.
    ///
    /// - Returns: false when the loop's budget is used up: then they are not all there, and the connection has to end.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var rest = unsafe bytes[...]
        while unsafe !rest.isEmpty {
            if unsafe chunks.count == first
                || chunks[chunks.count - 1].end == chunks[chunks.count - 1].buffer.count
            {
                // One large chunk beats many small ones as soon as a peer has proved to be slow.
                let size: BufferPool.Size =
                    unsafe rest.count > BufferPool.Size.medium.rawValue
                    || byteCount >= BufferPool.Size.medium.rawValue
                    ? .large : rest.count > BufferPool.Size.small.rawValue || byteCount > 0 ? .medium : .small
                guard let buffer = unsafe pool.take(size) else { return false }
                unsafe chunks.append(Chunk(buffer: buffer))
            }
            let last = chunks.count - 1
            let end = chunks[last].end
            let count = unsafe min(rest.count, chunks[last].buffer.count - end)
            let target = unsafe UnsafeMutableRawBufferPointer(
                rebasing: chunks[last].buffer[end..<end + count])
            unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest.prefix(count)))
            chunks[last].end += count
            byteCount += count
            unsafe rest = unsafe rest.dropFirst(count)
        }
        return true
    }

    /// Writes what waits.
    ///
    /// - Parameter written: set to how many bytes the socket took, also when the result is a failure.
    /// - Returns: `.bytes` once nothing waits, `.wouldBlock`, or `.failed`.
    mutating func flush(to socket: borrowing Socket, written: inout Int) -> IOResult {
        written = 0
        while byteCount > 0 {
            let chunk = chunks[first]
            let bytes = unsafe UnsafeRawBufferPointer(rebasing: chunk.buffer[chunk.start..<chunk.end])
            switch unsafe socket.write(bytes) {
            case .bytes(let count):
                written += count
                byteCount -= count
                chunks[first].start += count
                if chunks[first].start == chunks[first].end { giveFirst() }
            case .wouldBlock: return .wouldBlock
            case .end: return .wouldBlock
            case .failed(let number): return .failed(number)
            }
        }
        return .bytes(written)
    }

    /// Hands out what waits, piece by piece, until somebody takes less than a whole one.
    ///
    /// - Parameter take: says how many bytes of a piece it took.
    /// - Returns: how many bytes were taken.
    public mutating func drain(_ take: (UnsafeRawBufferPointer) -> Int) -> Int {
        var taken = 0
        while byteCount > 0 {
            let chunk = chunks[first]
            let bytes = unsafe UnsafeRawBufferPointer(rebasing: chunk.buffer[chunk.start..<chunk.end])
            let count = unsafe take(bytes)
            taken += count
            byteCount -= count
            chunks[first].start += count
            guard count == bytes.count else { break }
            giveFirst()
        }
        return taken
    }

    /// Forgets everything.
    public mutating func clear() {
        while first < chunks.count { giveFirst() }
        byteCount = 0
    }

    private mutating func giveFirst() {
        unsafe pool.give(chunks[first].buffer)
        first += 1
        if first == chunks.count {
            chunks.removeAll(keepingCapacity: first <= 4)
            first = 0
        } else if first >= 64 {
            chunks.removeFirst(first)
            first = 0
        }
    }
}
