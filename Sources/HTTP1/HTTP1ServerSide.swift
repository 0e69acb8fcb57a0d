/// The server's side of a connection: requests in, responses out. A value without I/O or clock; it keeps one head at most.
///
/// One request at a time: what a client sends behind it stays with the caller until the response is complete, so that
/// responses are in order and pipelining costs nobody memory. A response may begin, and end, before its request is
/// whole; the rest of that is read and dropped, up to a limit.
public struct HTTP1ServerSide: Sendable {
    private enum Response { case none, awaited, streaming, complete }

    public let limits: HTTP1Limits
    /// Protocols that a client may ask for, in lower case. Others are as if not asked for.
    private let upgrades: [String]
    private var reader: MessageReader
    private var writer = ContentWriter()
    private var request: HTTP1RequestHead?
    private var response = Response.none
    private var failure: HTTP1Error?
    private var keepsAlive = true
    private var isTunnel = false
    /// More came together with the end of the request.
    private var hasBytesBehind = false
    private var restBytes: Int64 = 0
    private var interimCount = 0
    private var sentContinue = false

    public init(limits: HTTP1Limits = .streaming, upgrades: [String] = ["websocket"]) {
        self.limits = limits
        self.upgrades = upgrades
        reader = MessageReader(requests: true, limits: limits)
    }

    /// The last response is complete: nothing more is read. Flush, close the writing side, and linger.
    public var isOver: Bool { response == .complete && !keepsAlive && !isTunnel }

    /// Whether `next` has a use for more bytes. Without it, wait with reading until the response is complete. Behind a
    /// request to change the protocol, bytes that come before the answer must be seen: they are refused.
    public var wantsInput: Bool {
        if isTunnel { return true }
        if isOver || failure != nil { return false }
        return !reader.isWhole || response == .complete || changesProtocol && response == .awaited
    }

    /// A request has begun and is not whole: the deadline of slow senders runs.
    public var isWithinRequest: Bool { !isTunnel && !reader.isBetweenMessages && !reader.isWhole }

    /// Reads on in `input` from `offset`, up to the next event.
    ///
    /// - Parameter offset: advanced over what was read. Bytes behind it must be passed again, in this or another buffer:
    ///   they are of a request whose turn has not come.
    /// - Returns: nil when nothing more can be read now.
    /// - Throws: when the connection is over, and again from every later call. A response that is still owed can be sent;
    ///   it closes.
    public mutating func next(_ input: UnsafeRawBufferPointer, _ offset: inout Int) throws(HTTP1Error)
        -> HTTP1Event?
    {
        if let failure { throw failure }
        do throws(HTTP1Error) {
            return try unsafe read(input, &offset)
        } catch {
            failure = error
            keepsAlive = false
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
            if isOver {
                offset = input.count
                return nil
            }
            if reader.isWhole {
                guard response == .complete else {
                    // To be read as a request if the change is declined, and as something else if it is not.
                    if changesProtocol, response == .awaited, offset < input.count || hasBytesBehind {
                        throw .upgrade
                    }
                    return nil
                }
                beginExchange()
            }
            switch try unsafe reader.next(input, &offset) {
            case nil: return nil
            case .head:
                guard var head = reader.request else { return nil }
                try HeadRules.complete(&head, upgrades: upgrades)
                // Before the head is handed over: a limit that its content breaks is known here.
                try reader.beginContent(head.framing)
                head.fields.removeHopByHop()
                request = head
                response = .awaited
                return .request(head)
            case .data(let range):
                guard response == .complete else { return .data(range) }
                restBytes += Int64(range.count)
                guard restBytes <= limits.rest else { throw .restTooLarge }
            case .end(let trailers):
                guard response != .complete else { continue }
                hasBytesBehind = offset < input.count
                return .end(trailers: trailers)
            }
        }
    }

    /// The client has closed its side. What it asked for before may still be answered.
    public mutating func end() throws(HTTP1Error) {
        if isTunnel { return }
        keepsAlive = false
        do throws(HTTP1Error) {
            _ = try reader.end()
        } catch {
            failure = failure ?? error
            throw error
        }
        if response == .none { response = .complete }
    }

    /// Writes the head of a response. Fields of the connection are the machine's and left out of `head`'s.
    ///
    /// Any number of interim responses, within the limit, precede the final one; clients of HTTP/1.0 get none of them. 101
    /// is final: the client asked for `head.upgrade`, and the connection is a tunnel from here on. So it is with a 2xx to
    /// CONNECT. Content without `content-length` is sent in chunks, or to HTTP/1.0 up to the end of the connection.
    ///
    /// - Parameter endStream: no content follows; `sendEnd` is not to be called.
    public mutating func sendHead(
        _ head: HTTP1ResponseHead, endStream: Bool, to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard response == .awaited || response == .none && failure != nil else { throw .order }
        guard (100...999).contains(head.status) else { throw .status }
        try HeadWriter.check(head.fields)
        let length = try HeadWriter.length(head.fields)
        if head.status == 101 { return try switchProtocol(head, to: &output) }
        if head.status < 200 { return try sendInterim(head, to: &output) }

        let isHead = request?.method == "HEAD"
        let isConnect = request?.method == "CONNECT"
        if isConnect, head.status < 300 {
            guard mayChangeProtocol else { throw .upgrade }
            HeadWriter.statusLine(head.status, to: &output)
            HeadWriter.fields(head.fields, to: &output)
            output += "\r\n".utf8
            isTunnel = true
            response = .streaming
            return
        }
        let hasContent = !isHead && head.status != 204 && head.status != 304
        guard !hasContent || !endStream || (length ?? 0) == 0 else { throw .content }

        // Content that a client was not told to send may come or not, and a declined tunnel's bytes may be under way:
        // where the next request begins would be a guess.
        let isUnsure =
            request?.expectsContinue == true && !sentContinue && !reader.hasContent && !reader.isWhole
            || changesProtocol && hasBytesBehind
        keepsAlive =
            keepsAlive && failure == nil && request?.keepsAlive ?? false && head.keepsAlive && !isUnsure
            && !isConnect
        let isCurrent = request?.isCurrent ?? false
        let framing: ContentFraming =
            if !hasContent || endStream { .none } else if let length { .length(length) } else if isCurrent {
                .chunked
            } else { .untilEnd }
        if framing == .untilEnd { keepsAlive = false }

        HeadWriter.statusLine(head.status, to: &output)
        HeadWriter.fields(head.fields, to: &output)
        if head.status != 204 {
            // Of a response without content the length is that of one that would have it, and known only to the caller.
            if let length = hasContent && endStream ? 0 : length {
                HeadWriter.lengthField(length, to: &output)
            }
            if framing == .chunked { output += "transfer-encoding: chunked\r\n".utf8 }
        }
        if !keepsAlive {
            output += "connection: close\r\n".utf8
        } else if !isCurrent {
            output += "connection: keep-alive\r\n".utf8
        }
        output += "\r\n".utf8
        writer.begin(framing)
        response = endStream ? .complete : .streaming
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
        guard response == .streaming else { throw .order }
        if !isTunnel { try writer.beginData(count, to: &output) }
    }

    public mutating func endData(_ count: Int, to output: inout [UInt8]) {
        if !isTunnel { writer.endData(count, to: &output) }
    }

    /// Ends the response. Trailers are written where its content is in chunks, and dropped elsewhere.
    ///
    /// - Throws: `content` when less came than was announced: end the connection, so that the client knows.
    public mutating func sendEnd(
        trailers: FieldBlock = FieldBlock(), to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard response == .streaming, !isTunnel else { throw .order }
        try writer.end(trailers, to: &output)
        response = .complete
    }

    private var changesProtocol: Bool { request?.upgrade != nil || request?.method == "CONNECT" }

    /// The request was read to its end, with nothing behind it: nobody can have taken that for another request.
    private var mayChangeProtocol: Bool { reader.isWhole && !hasBytesBehind && failure == nil }

    private mutating func beginExchange() {
        reader.beginMessage()
        request = nil
        response = .none
        (restBytes, interimCount, sentContinue, hasBytesBehind) = (0, 0, false, false)
    }

    private mutating func switchProtocol(
        _ head: HTTP1ResponseHead, to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard let wanted = request?.upgrade, head.upgrade == wanted, mayChangeProtocol else { throw .upgrade }
        HeadWriter.statusLine(101, to: &output)
        HeadWriter.fields(head.fields, to: &output)
        output += "connection: upgrade\r\nupgrade: \(wanted)\r\n\r\n".utf8
        isTunnel = true
        response = .streaming
    }

    private mutating func sendInterim(
        _ head: HTTP1ResponseHead, to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard interimCount < limits.interimResponses else { throw .order }
        interimCount += 1
        guard request?.isCurrent == true else { return }
        if head.status == 100 { sentContinue = true }
        HeadWriter.statusLine(head.status, to: &output)
        HeadWriter.fields(head.fields, to: &output)
        output += "\r\n".utf8
    }
}
