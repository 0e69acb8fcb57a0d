/// The client's side of a connection: requests out, responses in. A value without I/O or clock; it keeps one head at most.
///
/// One request at a time. Bytes that come while none is under way end the connection: they would be taken for the answer
/// to somebody else's request.
public struct HTTP1ClientSide: Sendable {
    private enum Request { case none, streaming, complete }

    public let limits: HTTP1Limits
    private var reader: MessageReader
    private var writer = ContentWriter()
    private var request = Request.none
    private var method = ""
    private var offered: String?
    private var isInterim = false
    private var interimCount = 0
    private var hasResponse = false
    private var failure: HTTP1Error?
    private var keepsAlive = true
    private var isTunnel = false
    private var hasEnded = false

    public init(limits: HTTP1Limits = .streaming) {
        self.limits = limits
        reader = MessageReader(requests: false, limits: limits)
    }

    /// A request may be sent.
    public var isIdle: Bool { request == .none && !isOver }

    /// No other request can be sent when this exchange is over.
    public var isOver: Bool { failure != nil || hasEnded || !keepsAlive && request == .none }

    /// Writes the head of a request. Fields of the connection are the machine's and left out of `head`'s, but for
    /// `te: trailers`; `host` comes first. Content without `content-length` is sent in chunks.
    ///
    /// - Parameter endStream: no content follows; `sendEnd` is not to be called.
    public mutating func sendHead(
        _ head: HTTP1RequestHead, endStream: Bool, to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard isIdle else { throw .order }
        try HeadWriter.check(head.fields)
        let length = try HeadWriter.length(head.fields)
        guard !endStream || (length ?? 0) == 0 else { throw .content }
        let isConnect = head.method == "CONNECT"
        // What comes behind such a request is of the other protocol already.
        guard !isConnect || endStream else { throw .content }
        if let upgrade = head.upgrade {
            guard head.method == "GET", endStream, !upgrade.isEmpty,
                upgrade.utf8.allSatisfy({ isTokenByte($0) && lowercased($0) == $0 })
            else { throw .upgrade }
        }
        try HeadWriter.requestLine(head, to: &output)
        HeadWriter.fields(head.fields, to: &output)

        let framing: ContentFraming = endStream ? .none : length.map { .length($0) } ?? .chunked
        if framing == .chunked {
            output += "transfer-encoding: chunked\r\n".utf8
        } else if let length = length ?? (Self.hasMeaningfulContent(head.method) ? 0 : nil), !isConnect {
            HeadWriter.lengthField(length, to: &output)
        }
        let hasTrailers = head.fields.hasMember("trailers", of: "te")
        if hasTrailers { output += "te: trailers\r\nconnection: te\r\n".utf8 }
        if let upgrade = head.upgrade {
            output += "upgrade: \(upgrade)\r\nconnection: upgrade\r\n".utf8
        } else if !head.keepsAlive {
            output += "connection: close\r\n".utf8
        }
        output += "\r\n".utf8

        writer.begin(framing)
        method = head.method
        offered = head.upgrade
        keepsAlive = head.keepsAlive
        request = endStream ? .complete : .streaming
        reader.beginMessage()
        (hasResponse, isInterim, interimCount) = (false, false, 0)
    }

    /// Writes content, framed.
    public mutating func sendData(
        _ bytes: UnsafeRawBufferPointer, to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        try beginData(bytes.count, to: &output)
        unsafe output.append(contentsOf: bytes)
        endData(bytes.count, to: &output)
    }

    /// Writes what stands before `count` bytes of content, which the caller passes on itself; then comes `endData`.
    public mutating func beginData(_ count: Int, to output: inout [UInt8]) throws(HTTP1SendError) {
        if isTunnel { return }
        guard request == .streaming, failure == nil else { throw .order }
        try writer.beginData(count, to: &output)
    }

    public mutating func endData(_ count: Int, to output: inout [UInt8]) {
        if !isTunnel { writer.endData(count, to: &output) }
    }

    /// Ends the request. Trailers are written where its content is in chunks, and dropped elsewhere.
    ///
    /// - Throws: `content` when less came than was announced: end the connection, so that the server knows.
    public mutating func sendEnd(
        trailers: FieldBlock = FieldBlock(), to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard request == .streaming, !isTunnel, failure == nil else { throw .order }
        try writer.end(trailers, to: &output)
        request = .complete
        endExchange()
    }

    /// Reads on in `input` from `offset`, up to the next event.
    ///
    /// - Parameter offset: advanced over what was read.
    /// - Returns: nil when everything was read.
    /// - Throws: when the connection is over, and again from every later call.
    public mutating func next(_ input: UnsafeRawBufferPointer, _ offset: inout Int) throws(HTTP1Error)
        -> HTTP1Event?
    {
        if let failure { throw failure }
        do throws(HTTP1Error) {
            return try unsafe read(input, &offset)
        } catch {
            failure = error
            throw error
        }
    }

    private mutating func read(
        _ input: UnsafeRawBufferPointer, _ offset: inout Int
    ) throws(HTTP1Error) -> HTTP1Event? {
        while true {
            if isTunnel {
                guard offset < input.count else { return nil }
                defer { offset = input.count }
                return .tunnel(offset..<input.count)
            }
            if request == .none || hasResponse && reader.isWhole {
                guard offset == input.count else { throw .unsolicited }
                return nil
            }
            switch try unsafe reader.next(input, &offset) {
            case nil: return nil
            case .head:
                guard let head = reader.response else { return nil }
                return .response(try begin(head))
            case .data(let range): return .data(range)
            case .end(let trailers):
                guard isInterim else {
                    endExchange()
                    return .end(trailers: trailers)
                }
                isInterim = false
                reader.beginMessage()
            }
        }
    }

    /// The server has closed its side.
    ///
    /// - Returns: the end of a response that is complete by that.
    public mutating func end() throws(HTTP1Error) -> HTTP1Event? {
        if let failure { throw failure }
        if isTunnel { return nil }
        defer { hasEnded = true }
        do throws(HTTP1Error) {
            if try reader.end() {
                endExchange()
                return .end(trailers: FieldBlock())
            }
            guard request == .none || hasResponse && reader.isWhole else { throw .incomplete }
            return nil
        } catch {
            failure = error
            throw error
        }
    }

    private mutating func begin(_ read: HTTP1ResponseHead) throws(HTTP1Error) -> HTTP1ResponseHead {
        var head = read
        try HeadRules.complete(&head, method: method, offered: offered)
        let opensTunnel = head.status == 101 || method == "CONNECT" && (200..<300).contains(head.status)
        if head.isInterim {
            interimCount += 1
            guard interimCount <= limits.interimResponses else { throw .tooManyInterim }
            isInterim = true
        } else {
            hasResponse = true
            keepsAlive = keepsAlive && head.keepsAlive && head.framing != .untilEnd
        }
        try reader.beginContent(head.framing)
        head.fields.removeHopByHop()
        if opensTunnel || head.isInterim || head.status == 204 {
            // Without meaning there (RFC 9110 §8.6).
            let fields = head.fields
            head.fields.removeAll { fields.name(at: $0, is: "content-length") }
        }
        isTunnel = opensTunnel
        return head
    }

    private mutating func endExchange() {
        guard request == .complete, hasResponse, reader.isWhole else { return }
        request = .none
    }

    /// Methods whose requests say that they have no content (RFC 9110 §8.6).
    private static func hasMeaningfulContent(_ method: String) -> Bool {
        method == "POST" || method == "PUT" || method == "PATCH"
    }
}
