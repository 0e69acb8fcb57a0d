/// One stream that is open, half closed, or closed with bytes that the application has yet to consume (RFC 9113 §5.1).
struct Stream {
    struct Flags: OptionSet {
        let rawValue: UInt8
        /// We have sent END_STREAM.
        static let localEnded = Flags(rawValue: 1)
        /// The peer has sent END_STREAM.
        static let remoteEnded = Flags(rawValue: 2)
        /// The peer's request, or its final response, has come: another HEADERS is trailers.
        static let headersReceived = Flags(rawValue: 4)
        /// The response has begun: a reset from now on is not "early".
        static let answered = Flags(rawValue: 8)
        /// The request was HEAD, whose response has a content-length and no content.
        static let head = Flags(rawValue: 16)
        static let connect = Flags(rawValue: 32)
        static let bothEnded: Flags = [.localEnded, .remoteEnded]
    }

    /// 0 marks a free place in the table.
    var id: StreamID = 0
    var flags: Flags = []
    var send = SendWindow(0)
    var receive = ReceiveWindow(size: 0)
    /// Bytes of content that `content-length` promised and that have not come; -1 when it promised nothing.
    var contentLeft = -1
}

/// The streams of one connection by identifier: open addressing in one array.
///
/// Identifiers rise in steps of two, so that halving them is a perfect hash as long as a peer does not skip; one that does
/// makes chains, which `maxConcurrentStreams` bounds. A place is valid only until the next insertion or removal.
struct StreamTable {
    private var places = [Stream](repeating: Stream(), count: 8)
    private(set) var count = 0
    var capacity: Int { places.count }

    /// The place of a stream, or nil when it is not in the table.
    @inline(__always)
    func place(of id: StreamID) -> Int? {
        let mask = places.count - 1
        var place = Int(id >> 1) & mask
        while places[place].id != id {
            if places[place].id == 0 { return nil }
            place = (place + 1) & mask
        }
        return place
    }

    subscript(place: Int) -> Stream {
        @inline(__always) _read { yield places[place] }
        @inline(__always) _modify { yield &places[place] }
    }

    /// Adds a stream whose identifier is not 0 and not in the table.
    mutating func insert(_ stream: Stream) {
        // Four fifths full at most: the 100 streams of a tunnel fit into 128 places.
        if (count + 1) * 5 > places.count * 4 { rehash(capacity: places.count * 2) }
        put(stream)
        count += 1
    }

    mutating func remove(at removed: Int) {
        let mask = places.count - 1
        var hole = removed
        var next = (hole + 1) & mask
        // Close the gap, so that searches need no tombstones: whoever hashed to the hole or before it moves up.
        while places[next].id != 0 {
            let home = Int(places[next].id >> 1) & mask
            if (next - home) & mask >= (next - hole) & mask {
                places[hole] = places[next]
                hole = next
            }
            next = (next + 1) & mask
        }
        places[hole] = Stream()
        count -= 1
        if places.count > 8, count * 8 < places.count { rehash(capacity: places.count / 2) }
    }

    /// The streams for which `condition` holds, in no order.
    func ids(where condition: (Stream) -> Bool) -> [StreamID] {
        places.filter { $0.id != 0 && condition($0) }.map(\.id)
    }

    /// Changes every stream, in no order.
    mutating func updateEach<E: Error>(_ body: (inout Stream) throws(E) -> Void) throws(E) {
        for place in places.indices where places[place].id != 0 { try body(&places[place]) }
    }

    private mutating func rehash(capacity: Int) {
        let old = places
        places = [Stream](repeating: Stream(), count: capacity)
        for stream in old where stream.id != 0 { put(stream) }
    }

    private mutating func put(_ stream: Stream) {
        let mask = places.count - 1
        var place = Int(stream.id >> 1) & mask
        while places[place].id != 0 { place = (place + 1) & mask }
        places[place] = stream
    }
}

/// The streams that we reset most recently: the peer could not know yet, so its frames on them are no offence (§5.1).
struct RecentResets {
    private static let limit = 512

    private var ids: [StreamID] = []
    private var oldest = 0

    mutating func insert(_ id: StreamID) {
        if ids.count < Self.limit {
            ids.append(id)
        } else {
            ids[oldest] = id
            oldest = (oldest + 1) % Self.limit
        }
    }

    func contains(_ id: StreamID) -> Bool { ids.contains(id) }
}
