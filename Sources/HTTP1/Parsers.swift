/// Reads requests whole, with their content, within `limits`: for admin pages, probes and the like. As strict as
/// `HTTP1ServerSide`, which streams.
public struct RequestParser: Sendable {
    private var input = WholeMessage()
    private var reader: MessageReader
    private var head: HTTP1RequestHead?
    private var expectsContinue = false

    public init(limits: HTTP1Limits = HTTP1Limits()) {
        reader = MessageReader(requests: true, limits: limits)
    }

    /// Adds bytes that have come. Call `next` until it returns nil before adding more: then no more is kept than one
    /// message and one piece of input.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        unsafe input.append(bytes)
    }

    /// The next whole request, or nil until it has come.
    ///
    /// - Throws: when the bytes are no request. Answer with `HTTP1Response(error)` and close: where the next message
    ///   would begin is unknown.
    public mutating func next() throws(HTTP1Error) -> HTTP1Request? {
        while true {
            guard let isHead = try input.read(&reader) else { return nil }
            if isHead {
                guard var read = reader.request else { return nil }
                try HeadRules.complete(&read, upgrades: [])
                try reader.beginContent(read.framing)
                expectsContinue = read.expectsContinue
                head = read
                continue
            }
            guard let head else { return nil }
            var request = HTTP1Request(
                method: head.method, target: String(decoding: head.target, as: UTF8.self),
                fields: HTTP1Fields(head.fields), body: input.takeBody())
            request.keepsAlive = head.keepsAlive
            reader.beginMessage()
            expectsContinue = false
            return request
        }
    }

    /// Whether `HTTP1Response.continue` must be sent now, before the peer sends content (RFC 9110 §10.1.1). True once
    /// a request.
    public mutating func takeContinue() -> Bool {
        defer { expectsContinue = false }
        return expectsContinue && !reader.hasContent
    }

    /// A request has begun and is not whole: the deadline of slow senders runs.
    public var isWithinRequest: Bool { !reader.isBetweenMessages || input.hasRest }
}

/// Reads responses whole, for the command line's client.
public struct ResponseParser: Sendable {
    private var input = WholeMessage()
    private var reader: MessageReader
    private let method: String

    /// - Parameter isHead: the request was HEAD, whose responses have no content.
    public init(isHead: Bool = false, limits: HTTP1Limits = HTTP1Limits()) {
        reader = MessageReader(requests: false, limits: limits)
        method = isHead ? "HEAD" : "GET"
    }

    /// Adds bytes that have come.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        unsafe input.append(bytes)
    }

    /// The response, or nil until it is whole. Interim responses are passed over.
    public mutating func next() throws(HTTP1Error) -> HTTP1Response? {
        while true {
            guard let isHead = try input.read(&reader) else { return nil }
            guard var head = reader.response else { return nil }
            if isHead {
                try HeadRules.complete(&head, method: method, offered: nil)
                try reader.beginContent(head.framing)
            } else if head.isInterim {
                reader.beginMessage()
            } else {
                return take(head)
            }
        }
    }

    /// The peer has closed: what came last may be a response without a length.
    public mutating func end() throws(HTTP1Error) -> HTTP1Response? {
        guard try reader.end(), let head = reader.response else { return nil }
        return take(head)
    }

    private mutating func take(_ head: HTTP1ResponseHead) -> HTTP1Response {
        reader.beginMessage()
        return HTTP1Response(status: head.status, fields: HTTP1Fields(head.fields), body: input.takeBody())
    }
}

/// Input that waits to be read, and the content of the message under way.
private struct WholeMessage {
    private var bytes: [UInt8] = []
    private var start = 0
    private var body: [UInt8] = []

    var hasRest: Bool { start < bytes.count }

    mutating func append(_ input: UnsafeRawBufferPointer) {
        if start == bytes.count || start > 64 << 10 {
            bytes.removeFirst(start)
            start = 0
        }
        unsafe bytes.append(contentsOf: input)
    }

    /// True at the end of a head, false at the end of a message, nil before.
    mutating func read(_ reader: inout MessageReader) throws(HTTP1Error) -> Bool? {
        while let piece = try next(&reader) {
            switch piece {
            case .head: return true
            case .data(let range): body += bytes[range]
            case .end: return false
            }
        }
        return nil
    }

    private mutating func next(_ reader: inout MessageReader) throws(HTTP1Error) -> MessageReader.Piece? {
        var result = Result<MessageReader.Piece?, HTTP1Error>.success(nil)
        unsafe bytes.withUnsafeBytes { input in
            do throws(HTTP1Error) {
                result = .success(try unsafe reader.next(input, &start))
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    mutating func takeBody() -> [UInt8] {
        defer { body = [] }
        return body
    }
}
