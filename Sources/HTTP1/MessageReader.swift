/// Reads one direction of a connection: heads, content, trailers, one message behind the other. Content is never kept: it
/// is told as ranges of the input. What is kept is one line and one head, within the limits.
///
/// Errors depend on the bytes alone, never on how they were cut into pieces.
struct MessageReader: Sendable {
    enum Piece {
        /// The head is in `request` or `response`. `beginContent` comes next.
        case head
        case data(Range<Int>)
        /// The message is whole. `beginMessage` comes next.
        case end(trailers: FieldBlock)
    }

    private enum Phase: Equatable {
        case startLine, fields, headRead
        case length(Int64)
        case chunkSize
        case chunk(Int64)
        case chunkReturn, chunkFeed
        case trailers
        /// Content up to the end of the connection.
        case untilEnd
        case end, ended
    }

    let limits: HTTP1Limits
    private let readsRequests: Bool
    private var phase = Phase.startLine
    private(set) var request: HTTP1RequestHead?
    private(set) var response: HTTP1ResponseHead?
    private var fields = FieldBlock()
    /// The line under way, with its end.
    private var line: [UInt8] = []
    private var emptyLines = 0
    private var headBytes = 0
    private var bodyBytes: Int64 = 0
    private var extensionBytes = 0

    init(requests: Bool, limits: HTTP1Limits) {
        readsRequests = requests
        self.limits = limits
    }

    /// No byte of a message has come: the peer may close here.
    var isBetweenMessages: Bool { phase == .startLine && line.isEmpty }
    /// The message that was begun is whole, and the next one may not be read yet.
    var isWhole: Bool { phase == .ended }
    /// Content has come.
    var hasContent: Bool { bodyBytes > 0 }

    mutating func beginMessage() {
        phase = .startLine
        emptyLines = 0
        headBytes = 0
        (request, response) = (nil, nil)
    }

    mutating func beginContent(_ framing: ContentFraming) throws(HTTP1Error) {
        (bodyBytes, extensionBytes, headBytes) = (0, 0, 0)
        switch framing {
        case .none: phase = .end
        case .length(let count):
            guard count <= limits.body else { throw .bodyTooLarge }
            phase = count == 0 ? .end : .length(count)
        case .chunked: phase = .chunkSize
        case .untilEnd: phase = .untilEnd
        }
    }

    /// Reads on in `input` from `offset`, up to the next piece; nil when everything was read, or when the next step is
    /// the caller's.
    mutating func next(_ input: UnsafeRawBufferPointer, _ offset: inout Int) throws(HTTP1Error) -> Piece? {
        while true {
            switch phase {
            case .headRead, .ended: return nil

            case .startLine:
                guard try unsafe takeLine(input, &offset, limits.startLine, .startLineTooLong)
                else { return nil }
                if readsRequests, line.isEmpty, emptyLines < limits.emptyLines {
                    emptyLines += 1
                    continue
                }
                if readsRequests {
                    request = try HeadRules.requestLine(line[...])
                } else {
                    response = try HeadRules.statusLine(line[...])
                }
                headBytes = line.count + 2
                line.removeAll(keepingCapacity: true)
                fields = FieldBlock()
                phase = .fields

            case .fields:
                guard try unsafe takeField(input, &offset, limits.head, .headTooLarge) else { return nil }
                guard line.isEmpty else {
                    try addField()
                    continue
                }
                request?.fields = fields
                response?.fields = fields
                fields = FieldBlock()
                phase = .headRead
                return .head

            case .length(let left):
                let count = min(left, Int64(input.count - offset))
                guard count > 0 else { return nil }
                phase = left == count ? .end : .length(left - count)
                return .data(try take(Int(count), &offset))

            case .untilEnd:
                guard input.count > offset else { return nil }
                return .data(try take(input.count - offset, &offset))

            case .chunkSize:
                guard try unsafe takeLine(input, &offset, limits.chunkLine, .chunkExtensionsTooLong)
                else { return nil }
                let size = try chunkSize()
                line.removeAll(keepingCapacity: true)
                guard size <= limits.body - bodyBytes else { throw .bodyTooLarge }
                phase = size == 0 ? .trailers : .chunk(size)

            case .chunk(let left):
                let count = min(left, Int64(input.count - offset))
                guard count > 0 else { return nil }
                phase = left == count ? .chunkReturn : .chunk(left - count)
                return .data(try take(Int(count), &offset))

            case .chunkReturn, .chunkFeed:
                guard offset < input.count else { return nil }
                guard unsafe input[offset] == (phase == .chunkReturn ? 0x0d : 0x0a) else { throw .chunk }
                offset += 1
                phase = phase == .chunkReturn ? .chunkFeed : .chunkSize

            case .trailers:
                guard try unsafe takeField(input, &offset, limits.trailers, .trailersTooLarge)
                else { return nil }
                guard line.isEmpty else {
                    try addField()
                    guard !HeadRules.mayNotTrail(fields.name(at: fields.count - 1)) else { throw .field }
                    continue
                }
                phase = .end

            case .end:
                phase = .ended
                var trailers = FieldBlock()
                swap(&trailers, &fields)
                let all = trailers
                trailers.removeAll { HeadRules.isDroppedTrailer(all.name(at: $0)) }
                return .end(trailers: trailers)
            }
        }
    }

    /// The peer has closed.
    ///
    /// - Returns: true when that ends a message, which is whole now.
    mutating func end() throws(HTTP1Error) -> Bool {
        switch phase {
        case .untilEnd:
            phase = .ended
            return true
        case .startLine where line.isEmpty, .ended: return false
        default: throw .incomplete
        }
    }

    private mutating func take(_ count: Int, _ offset: inout Int) throws(HTTP1Error) -> Range<Int> {
        guard Int64(count) <= limits.body - bodyBytes else { throw .bodyTooLarge }
        bodyBytes += Int64(count)
        defer { offset += count }
        return offset..<offset + count
    }

    private mutating func addField() throws(HTTP1Error) {
        guard fields.count < limits.fieldCount else { throw .tooManyFields }
        try HeadRules.field(line[...], into: &fields)
        headBytes += line.count + 2
        line.removeAll(keepingCapacity: true)
    }

    private mutating func takeField(
        _ input: UnsafeRawBufferPointer, _ offset: inout Int, _ total: Int, _ tooLarge: HTTP1Error
    ) throws(HTTP1Error) -> Bool {
        let left = max(0, total - headBytes)
        return left < limits.field
            ? try unsafe takeLine(input, &offset, left, tooLarge)
            : try unsafe takeLine(input, &offset, limits.field, .fieldTooLong)
    }

    /// Collects a line in `line`. True when it is whole, without its CRLF.
    private mutating func takeLine(
        _ input: UnsafeRawBufferPointer, _ offset: inout Int, _ limit: Int, _ tooLong: HTTP1Error
    ) throws(HTTP1Error) -> Bool {
        let rest = unsafe UnsafeRawBufferPointer(rebasing: input[offset...])
        let feed = unsafe rest.firstIndex(of: 0x0a)
        let count = feed.map { $0 + 1 } ?? rest.count
        guard count <= limit + 2 - line.count else { throw tooLong }
        unsafe line.append(contentsOf: rest[..<count])
        offset += count
        guard feed != nil else { return false }
        guard line.count >= 2, line[line.count - 2] == 0x0d else { throw .lineEnd }
        line.removeLast(2)
        guard !line.contains(0x0d) else { throw .lineEnd }
        return true
    }

    /// Hexadecimal digits, and extensions to skip (RFC 9112 §7.1). White space between them, which that asks nobody to
    /// send, is refused with everything else.
    private mutating func chunkSize() throws(HTTP1Error) -> Int64 {
        var size: Int64 = 0
        var digits = 0
        for byte in line {
            guard let value = hexValue(byte) else { break }
            digits += 1
            guard digits <= 15 else { throw .chunk }
            size = size << 4 | value
        }
        let rest = line[digits...]
        guard digits > 0, rest.isEmpty || Self.isExtensions(rest) else { throw .chunk }
        extensionBytes += rest.count
        guard extensionBytes <= limits.chunkExtensions else { throw .chunkExtensionsTooLong }
        return size
    }

    /// `*( ";" token [ "=" ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
    private static func isExtensions(_ text: ArraySlice<UInt8>) -> Bool {
        var rest = text
        func token() -> Bool {
            let end = rest.firstIndex { !isTokenByte($0) } ?? rest.endIndex
            defer { rest = rest[end...] }
            return end > rest.startIndex
        }
        while let first = rest.popFirst() {
            guard first == 0x3b, token() else { return false }
            guard rest.first == 0x3d else { continue }
            rest.removeFirst()
            guard rest.first == 0x22 else {
                guard token() else { return false }
                continue
            }
            rest.removeFirst()
            while true {
                guard let byte = rest.popFirst(), isValueByte(byte) else { return false }
                if byte == 0x22 { break }
                if byte == 0x5c { guard let next = rest.popFirst(), isValueByte(next) else { return false } }
            }
        }
        return true
    }
}
