/// Owned bytes, appended behind and taken from the front. Grows as needed and gives large memory back when it empties.
///
/// An Array would do, but its pointer is reachable only within closures, which cannot pass typed errors on.
@safe public struct ByteQueue: ~Copyable {
    private var memory: UnsafeMutableRawBufferPointer
    @usableFromInline var head = 0
    @usableFromInline var tail = 0

    /// Memory above this is freed when the queue empties, so that an idle connection is small.
    private static let keptCapacity = 4096

    init() {
        unsafe memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    deinit {
        unsafe memory.deallocate()
    }

    /// Bytes that wait.
    @inlinable public var count: Int { tail - head }
    @inlinable public var isEmpty: Bool { head == tail }

    /// The bytes that wait, valid until the next mutation.
    var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: memory[head..<tail])
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard unsafe !bytes.isEmpty else { return }
        reserve(bytes.count)
        unsafe UnsafeMutableRawBufferPointer(rebasing: memory[tail..<tail + bytes.count])
            .copyMemory(from: bytes)
        tail += bytes.count
    }

    mutating func append(_ byte: UInt8) {
        reserve(1)
        unsafe memory[tail] = byte
        tail += 1
    }

    /// Appends the `width` low bytes of `value`, the most significant first.
    mutating func append(_ value: UInt64, width: Int) {
        reserve(width)
        for index in 0..<width {
            unsafe memory[tail + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(width - 1 - index)))
        }
        tail += width
    }

    /// Moves as much as fits to `target`.
    mutating func take(into target: UnsafeMutableRawBufferPointer) -> Int {
        let byteCount = min(count, target.count)
        guard byteCount > 0 else { return 0 }
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[..<byteCount])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[head..<head + byteCount]))
        head += byteCount
        if head == tail { removeAll() }
        return byteCount
    }

    mutating func removeAll() {
        head = 0
        tail = 0
        if unsafe memory.count > Self.keptCapacity {
            unsafe memory.deallocate()
            unsafe memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        }
    }

    private mutating func reserve(_ byteCount: Int) {
        guard unsafe memory.count - tail < byteCount else { return }
        let waiting = count
        if head > 0, unsafe memory.count - waiting >= byteCount, head >= waiting {
            // The room is in front: moving down costs at most what was already taken from there.
            unsafe memory.copyMemory(from: bytes)
        } else {
            let capacity = unsafe max(128, max(waiting + byteCount, memory.count * 2))
            let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
            if waiting > 0 { unsafe larger.copyMemory(from: bytes) }
            unsafe memory.deallocate()
            unsafe memory = larger
        }
        head = 0
        tail = waiting
    }
}
