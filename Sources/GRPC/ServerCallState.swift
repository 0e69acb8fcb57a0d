import HTTP2

/// A server's side of one call: the headers that it owes, each once.
struct ServerCallState {
    /// What a request's headers ask for.
    struct Request: Equatable {
        var path: String
        var metadata: GRPCMetadata
        var timeout: Duration?
    }

    /// Why a request is no call of ours: the whole answer, which ends the stream.
    struct Rejection: Error, Equatable {
        var response: HeaderBlock
    }

    private var sentHeaders = false
    private(set) var isFinished = false

    /// Reads a request ("Request-Headers").
    static func accept(_ block: HeaderBlock) throws(Rejection) -> Request {
        guard ClientCallState.isGRPC(block["content-type"]) else {
            // Not a gRPC client: it understands HTTP's words only ("Content-Type").
            var response = HeaderBlock(status: 415)
            response.append("accept", "application/grpc")
            throw Rejection(response: response)
        }
        guard block.method == "POST", let path = block.path else {
            throw Rejection(response: HeaderBlock(status: 405))
        }
        if let encoding = block["grpc-encoding"], encoding != "identity" {
            throw rejection(
                GRPCStatus(.unimplemented, "encoding \(encoding) is not supported"), acceptEncoding: true)
        }
        var timeout: Duration?
        if let text = block["grpc-timeout"] {
            timeout = GRPCTimeout.decode(text)
            guard timeout != nil else {
                throw rejection(GRPCStatus(.internal, "malformed grpc-timeout"), acceptEncoding: false)
            }
        }
        return Request(path: path, metadata: GRPCMetadata(block), timeout: timeout)
    }

    /// A Trailers-Only response for a call that is not taken.
    static func rejection(_ status: GRPCStatus, acceptEncoding: Bool) -> Rejection {
        var response = HeaderBlock(status: 200)
        response.append("content-type", "application/grpc")
        if acceptEncoding { response.append("grpc-accept-encoding", "identity") }
        status.append(to: &response)
        return Rejection(response: response)
    }

    /// The response's headers, nil when they were sent.
    mutating func responseHeaders(_ metadata: GRPCMetadata) -> HeaderBlock? {
        guard !sentHeaders, !isFinished else { return nil }
        sentHeaders = true
        var block = HeaderBlock(status: 200)
        block.append("content-type", "application/grpc")
        metadata.append(to: &block)
        return block
    }

    /// The headers that end the response: trailers, or everything at once when nothing was sent ("Trailers-Only").
    /// Nil when it has ended.
    mutating func finish(_ status: GRPCStatus, trailers: GRPCMetadata) -> HeaderBlock? {
        guard !isFinished else { return nil }
        isFinished = true
        var block = HeaderBlock()
        if !sentHeaders {
            block = HeaderBlock(status: 200)
            block.append("content-type", "application/grpc")
        }
        status.append(to: &block)
        trailers.append(to: &block)
        return block
    }
}
