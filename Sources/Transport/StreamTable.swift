import HTTP2

/// The streams of a channel by their identifiers.
///
/// Open addressing on the identifier itself: identifiers are given out in order, so live streams lie side by side and a
/// look-up, one for every frame, finds its stream at the first probe.
struct StreamTable {
    private var slots: ContiguousArray<HTTP2Stream?> = ContiguousArray(repeating: nil, count: 8)
    private(set) var count = 0

    private var mask: Int { slots.count - 1 }
    var isEmpty: Bool { count == 0 }

    private func home(_ id: StreamID) -> Int { Int(id >> 1) & mask }

    subscript(id: StreamID) -> HTTP2Stream? {
        var index = home(id)
        while let stream = slots[index] {
            if stream.id == id { return stream }
            index = (index + 1) & mask
        }
        return nil
    }

    mutating func insert(_ stream: HTTP2Stream) {
        // Four fifths full at most: the 100 streams of a tunnel fit into 128 slots.
        if (count + 1) * 5 > slots.count * 4 { grow() }
        place(stream)
        count += 1
    }

    mutating func remove(_ id: StreamID) {
        var hole = home(id)
        while let stream = slots[hole], stream.id != id { hole = (hole + 1) & mask }
        guard slots[hole] != nil else { return }
        slots[hole] = nil
        count -= 1
        // Moves back what would not be found any more behind the hole.
        var index = (hole + 1) & mask
        while let stream = slots[index] {
            let distance = (index - home(stream.id)) & mask
            if distance >= (index - hole) & mask {
                slots[hole] = stream
                slots[index] = nil
                hole = index
            }
            index = (index + 1) & mask
        }
    }

    mutating func removeAll() -> [HTTP2Stream] {
        let all = Array(self)
        self = StreamTable()
        return all
    }

    private mutating func place(_ stream: HTTP2Stream) {
        var index = home(stream.id)
        while slots[index] != nil { index = (index + 1) & mask }
        slots[index] = stream
    }

    private mutating func grow() {
        let old = slots
        slots = ContiguousArray(repeating: nil, count: old.count * 2)
        for stream in old { if let stream { place(stream) } }
    }
}

extension StreamTable: Sequence {
    func makeIterator() -> some IteratorProtocol<HTTP2Stream> {
        slots.lazy.compactMap { $0 }.makeIterator()
    }
}

/// Streams that wait to write, first come first served. A stream is in it once at most.
struct StreamQueue {
    private var head: HTTP2Stream?
    private var tail: HTTP2Stream?

    var isEmpty: Bool { head == nil }

    mutating func append(_ stream: HTTP2Stream) {
        guard !stream.isWaiting else { return }
        stream.isWaiting = true
        if let tail { tail.nextWaiting = stream } else { head = stream }
        tail = stream
    }

    mutating func popFirst() -> HTTP2Stream? {
        guard let first = head else { return nil }
        head = first.nextWaiting
        if head == nil { tail = nil }
        first.nextWaiting = nil
        first.isWaiting = false
        return first
    }

    /// One by one, for a chain of references that is freed at once is freed recursively.
    mutating func removeAll() {
        while popFirst() != nil {}
    }
}
