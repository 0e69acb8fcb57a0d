/// Collects the bytes of messages, one behind the other: what request and response parsers share.
struct MessageReader {
    enum Phase: Equatable {
        case head
        /// Content bytes that are still to come.
        case length(Int)
        case chunkSize
        case chunk(Int)
        case trailers
        /// Content up to the end of the connection.
        case untilEnd
        case complete
    }

    let limits: HTTP1Limits
    private(set) var phase = Phase.head
    private(set) var body: [UInt8] = []
    private var bytes: [UInt8] = []
    /// Where unread bytes begin.
    private var start = 0
    /// Up to where no end of line or head was found: nothing is searched twice.
    private var searched = 0
    private var trailerBytes = 0

    init(limits: HTTP1Limits) {
        self.limits = limits
    }

    /// No message has begun: the peer may close here.
    var isBetweenMessages: Bool { phase == .head && start == bytes.count }

    mutating func append(_ input: UnsafeRawBufferPointer) {
        if start == bytes.count || start > 64 << 10 {
            bytes.removeFirst(start)
            searched -= start
            start = 0
            searched = max(0, searched)
        }
        unsafe bytes.append(contentsOf: input)
    }

    /// The lines of a head, or nil until it is whole.
    mutating func takeHead() throws(HTTP1Error) -> [ArraySlice<UInt8>]? {
        // An empty line before a message is ignored: some clients send one behind a body (RFC 9112 §2.2).
        if bytes.count - start >= 2, bytes[start] == 0x0d, bytes[start + 1] == 0x0a { start += 2 }
        var index = max(start, searched - 3)
        while index + 3 < bytes.count {
            guard index - start <= limits.head else { throw .headTooLarge }
            if bytes[index] == 0x0d, bytes[index + 1] == 0x0a, bytes[index + 2] == 0x0d,
                bytes[index + 3] == 0x0a
            {
                let head = bytes[start..<index + 2]
                start = index + 4
                searched = start
                return try HeadParser.lines(head)
            }
            // Two LFs are no end, and will never become one: say so before the limit does.
            if bytes[index] == 0x0a, index == start || bytes[index - 1] != 0x0d { throw .lineEnd }
            index += 1
        }
        searched = bytes.count
        guard bytes.count - start <= limits.head else { throw .headTooLarge }
        return nil
    }

    mutating func beginBody(_ framing: HeadParser.Framing, untilEnd: Bool) throws(HTTP1Error) {
        body = []
        switch framing {
        case .none: phase = untilEnd ? .untilEnd : .complete
        case .length(let count):
            guard count <= limits.body else { throw .bodyTooLarge }
            phase = count == 0 ? .complete : .length(count)
        case .chunked:
            trailerBytes = 0
            phase = .chunkSize
        }
    }

    /// Reads content as far as it has come.
    ///
    /// - Returns: true when the message is whole.
    mutating func readBody() throws(HTTP1Error) -> Bool {
        while true {
            switch phase {
            case .complete: return true
            case .head: return false
            case .length(let left):
                let taken = try take(atMost: left)
                guard taken == left else {
                    phase = .length(left - taken)
                    return false
                }
                phase = .complete
            case .untilEnd:
                _ = try take(atMost: .max)
                return false
            case .chunkSize:
                guard let line = try takeLine(limit: 256) else { return false }
                let size = try chunkSize(line)
                guard body.count + size <= limits.body else { throw .bodyTooLarge }
                phase = size == 0 ? .trailers : .chunk(size)
            case .chunk(let left):
                let taken = try take(atMost: left)
                guard taken == left else {
                    phase = .chunk(left - taken)
                    return false
                }
                phase = .chunk(0)
                guard bytes.count - start >= 2 else { return false }
                guard bytes[start] == 0x0d, bytes[start + 1] == 0x0a else { throw .chunk }
                start += 2
                phase = .chunkSize
            case .trailers:
                // Read for their end only: nobody here has a use for them (RFC 9112 §7.1.2).
                guard let line = try takeLine(limit: limits.head) else { return false }
                trailerBytes += line.count + 2
                guard trailerBytes <= limits.head else { throw .headTooLarge }
                if line.isEmpty { phase = .complete }
            }
        }
    }

    /// The peer has closed.
    ///
    /// - Returns: true when that ends a message.
    mutating func end() throws(HTTP1Error) -> Bool {
        guard phase == .untilEnd else {
            guard isBetweenMessages else { throw .incomplete }
            return false
        }
        phase = .complete
        return true
    }

    /// The content of a whole message; the next one begins.
    mutating func takeBody() -> [UInt8] {
        phase = .head
        searched = start
        defer { body = [] }
        return body
    }

    private mutating func take(atMost limit: Int) throws(HTTP1Error) -> Int {
        let count = min(limit, bytes.count - start)
        guard body.count + count <= limits.body else { throw .bodyTooLarge }
        body += bytes[start..<start + count]
        start += count
        return count
    }

    private mutating func takeLine(limit: Int) throws(HTTP1Error) -> ArraySlice<UInt8>? {
        guard let end = bytes[start...].firstIndex(of: 0x0a) else {
            guard bytes.count - start <= limit else { throw .chunk }
            return nil
        }
        guard end > start, bytes[end - 1] == 0x0d, end - start <= limit else { throw .chunk }
        let line = bytes[start..<end - 1]
        guard !line.contains(0x0d) else { throw .lineEnd }
        start = end + 1
        return line
    }

    private func chunkSize(_ line: ArraySlice<UInt8>) throws(HTTP1Error) -> Int {
        let digits = line.prefix { $0 != 0x3b && $0 != 0x20 && $0 != 0x09 }
        guard !digits.isEmpty, digits.count <= 8, digits.allSatisfy(isHexDigit),
            let size = Int(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw .chunk }
        // Extensions are skipped (RFC 9112 §7.1.1); anything else behind the size is not one.
        let rest = HeadParser.trimmed(line[digits.endIndex...])
        guard rest.isEmpty || rest.first == 0x3b else { throw .chunk }
        return size
    }
}
