/// Messages in a stream of bytes: one byte of flags, four of length, then the message ("Length-Prefixed-Message").
struct MessageReader {
    static let prefixLength = 5

    /// Bytes of one message; a change counts from the next message on.
    var limit: Int
    private var prefix: UInt64 = 0
    private var prefixCount = 0
    private var message: [UInt8] = []
    private var left = 0

    /// - Parameter limit: bytes of one message.
    init(limit: Int) {
        self.limit = limit
    }

    /// Nothing of a message has come that is not whole: the stream may end here.
    var isBetweenMessages: Bool { prefixCount == 0 }

    /// Reads on in `input` from `offset`, up to the end of the next message.
    ///
    /// - Returns: the message, or nil when everything was read.
    /// - Throws: `resourceExhausted` for a message over the limit, `internal` for one that is compressed: we accept
    ///   identity only, and say so.
    mutating func next(
        _ input: UnsafeRawBufferPointer, _ offset: inout Int
    ) throws(GRPCStatus) -> [UInt8]? {
        while prefixCount < Self.prefixLength {
            guard offset < input.count else { return nil }
            prefix = prefix << 8 | UInt64(unsafe input[offset])
            offset += 1
            prefixCount += 1
            if prefixCount == Self.prefixLength { try begin() }
        }
        let count = min(left, input.count - offset)
        if count > 0 {
            unsafe message.append(
                contentsOf: UnsafeRawBufferPointer(rebasing: input[offset..<offset + count]))
            offset += count
            left -= count
        }
        guard left == 0 else { return nil }
        prefix = 0
        prefixCount = 0
        defer { message = [] }
        return message
    }

    private mutating func begin() throws(GRPCStatus) {
        let flags = prefix >> 32 & 0xff
        left = Int(prefix & 0xffff_ffff)
        guard flags == 0 else {
            throw GRPCStatus(
                .internal, flags == 1 ? "compressed message without an encoding" : "illegal message flags")
        }
        guard left <= limit else {
            throw GRPCStatus(.resourceExhausted, "message of \(left) bytes, the limit is \(limit)")
        }
        // The length is the peer's word: memory follows what comes, not what is announced.
        message.reserveCapacity(min(left, 64 << 10))
    }

    /// The five bytes before a message.
    static func prefix(length: Int) -> [UInt8] {
        let length = UInt32(clamping: length)
        return [
            0, UInt8(length >> 24), UInt8(length >> 16 & 0xff), UInt8(length >> 8 & 0xff),
            UInt8(length & 0xff),
        ]
    }
}

/// Messages that wait to be sent, each with its prefix.
struct MessageQueue {
    private var messages: [[UInt8]] = []
    /// The first message that has not been sent whole.
    private var first = 0
    /// Bytes of it, prefix included, that were.
    private var sent = 0
    private(set) var byteCount = 0

    var isEmpty: Bool { byteCount == 0 }

    mutating func append(_ message: [UInt8]) {
        messages.append(message)
        byteCount += MessageReader.prefixLength + message.count
    }

    /// Moves as much as fits to `target`.
    mutating func take(into target: UnsafeMutableRawBufferPointer) -> Int {
        var written = 0
        while written < target.count, first < messages.count {
            let message = messages[first]
            if sent < MessageReader.prefixLength {
                let prefix = MessageReader.prefix(length: message.count)
                while sent < MessageReader.prefixLength, written < target.count {
                    unsafe target[written] = prefix[sent]
                    sent += 1
                    written += 1
                }
                if sent < MessageReader.prefixLength { break }
            }
            let done = sent - MessageReader.prefixLength
            let count = min(message.count - done, target.count - written)
            if count > 0 {
                unsafe message.withUnsafeBytes { bytes in
                    unsafe UnsafeMutableRawBufferPointer(rebasing: target[written..<written + count])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]))
                }
            }
            written += count
            sent += count
            guard sent == MessageReader.prefixLength + message.count else { break }
            // Its memory goes now, not when the whole queue has been sent.
            messages[first] = []
            first += 1
            sent = 0
        }
        byteCount -= written
        if first > 64 || first == messages.count {
            messages.removeFirst(first)
            first = 0
        }
        return written
    }

    mutating func removeAll() { self = MessageQueue() }
}
