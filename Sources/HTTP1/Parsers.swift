/// Reads requests, strictly (RFC 9112): whatever two readers could understand in two ways is refused.
///
/// For admin pages, probes and the like: a request is handed over whole, with its content, within `limits`.
public struct RequestParser: Sendable {
    private var reader: MessageReader
    private var request: HTTP1Request?
    private var expectsContinue = false

    public init(limits: HTTP1Limits = HTTP1Limits()) {
        reader = MessageReader(limits: limits)
    }

    /// Adds bytes that have come. Call `next` until it returns nil before adding more: then no more is kept than one
    /// message and one piece of input.
    public mutating func append(_ input: UnsafeRawBufferPointer) {
        unsafe reader.append(input)
    }

    /// The next whole request, or nil until it has come.
    ///
    /// - Throws: when the bytes are no request. Answer with `HTTP1Response(error)` and close: where the next message
    ///   would begin is unknown.
    public mutating func next() throws(HTTP1Error) -> HTTP1Request? {
        if request == nil {
            guard let lines = try reader.takeHead() else { return nil }
            request = try begin(lines)
        }
        guard try reader.readBody(), var whole = request else { return nil }
        whole.body = reader.takeBody()
        request = nil
        expectsContinue = false
        return whole
    }

    /// Whether `HTTP1Response.continue` must be sent now, before the peer sends content (RFC 9110 §10.1.1). True once
    /// a request.
    public mutating func takeContinue() -> Bool {
        defer { expectsContinue = false }
        return expectsContinue && reader.body.isEmpty
    }

    /// A request has begun and is not whole: the deadline of slow senders runs.
    public var isWithinRequest: Bool { !reader.isBetweenMessages }

    private mutating func begin(_ lines: [ArraySlice<UInt8>]) throws(HTTP1Error) -> HTTP1Request {
        guard let first = lines.first else { throw .startLine }
        let (method, target, isCurrent) = try HeadParser.requestLine(first)
        let fields = try HeadParser.fields(lines.dropFirst(), limits: reader.limits)
        let hosts = fields.values(of: "host")
        guard hosts.count <= 1, hosts.count == 1 || !isCurrent else { throw .host }
        if let host = hosts.first {
            guard host.utf8.allSatisfy({ (0x21...0x7e).contains($0) && !"/?#@\\,".utf8.contains($0) })
            else { throw .host }
        }
        var request = HTTP1Request(method: method, target: target, fields: fields)
        request.keepsAlive =
            isCurrent
            ? !fields.lists("close", in: "connection") : fields.lists("keep-alive", in: "connection")
        let framing = try HeadParser.framing(fields, isCurrent: isCurrent)
        try reader.beginBody(framing, untilEnd: false)
        expectsContinue =
            isCurrent && framing != .none
            && fields["expect"].map { $0.lowercased() == "100-continue" } ?? false
        return request
    }
}

/// Reads responses, for the command line's client.
public struct ResponseParser: Sendable {
    private var reader: MessageReader
    private var response: HTTP1Response?
    private let isHead: Bool

    /// - Parameter isHead: the request was HEAD, whose responses have no content.
    public init(isHead: Bool = false, limits: HTTP1Limits = HTTP1Limits()) {
        reader = MessageReader(limits: limits)
        self.isHead = isHead
    }

    /// Adds bytes that have come.
    public mutating func append(_ input: UnsafeRawBufferPointer) {
        unsafe reader.append(input)
    }

    /// The response, or nil until it is whole. Interim responses are passed over.
    public mutating func next() throws(HTTP1Error) -> HTTP1Response? {
        while true {
            if response == nil {
                guard let lines = try reader.takeHead() else { return nil }
                response = try begin(lines)
            }
            guard try reader.readBody(), var whole = response else { return nil }
            whole.body = reader.takeBody()
            response = nil
            if whole.status >= 200 { return whole }
        }
    }

    /// The peer has closed: what came last may be a response without a length.
    public mutating func end() throws(HTTP1Error) -> HTTP1Response? {
        guard try reader.end() else { return nil }
        return try next()
    }

    private mutating func begin(_ lines: [ArraySlice<UInt8>]) throws(HTTP1Error) -> HTTP1Response {
        guard let first = lines.first else { throw .startLine }
        let (status, isCurrent) = try HeadParser.statusLine(first)
        let fields = try HeadParser.fields(lines.dropFirst(), limits: reader.limits)
        if isHead || status < 200 || status == 204 || status == 304 {
            try reader.beginBody(.none, untilEnd: false)
        } else {
            let framing = try HeadParser.framing(fields, isCurrent: isCurrent)
            try reader.beginBody(framing, untilEnd: framing == .none)
        }
        return HTTP1Response(status: status, fields: fields)
    }
}
