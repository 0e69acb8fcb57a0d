import HTTP2

/// A client's side of one call: what the peer's headers, trailers and resets come to. It ends exactly once.
struct ClientCallState {
    enum Step: Equatable {
        case nothing
        /// The server's initial metadata.
        case metadata(GRPCMetadata)
        case ended(GRPCStatus, trailers: GRPCMetadata)
    }

    private(set) var isEnded = false
    private var sawMetadata = false
    private var httpFailure: GRPCStatus?

    mutating func headers(_ block: HeaderBlock, endStream: Bool) -> Step {
        guard !isEnded, let httpStatus = block.status, httpStatus >= 200 else { return .nothing }
        let isGRPC = Self.isGRPC(block["content-type"])
        // Trailers-Only: the status comes at once. Proxies answer so too, with a status and without our content type.
        if endStream {
            let status =
                GRPCStatus(trailers: block)
                ?? (httpStatus == 200
                    ? GRPCStatus(.unknown, "response without grpc-status")
                    : GRPCStatus(httpStatus: httpStatus))
            return end(status, trailers: GRPCMetadata(block))
        }
        guard httpStatus == 200 else {
            // The trailers may say more; its content is not for us.
            httpFailure = GRPCStatus(httpStatus: httpStatus)
            return .nothing
        }
        guard isGRPC else {
            return end(
                GRPCStatus(.unknown, "content-type \(block["content-type"] ?? "(none)") is not gRPC's"),
                trailers: [:])
        }
        if let encoding = block["grpc-encoding"], encoding != "identity" {
            return end(
                GRPCStatus(.internal, "server used encoding \(encoding), which was not offered"),
                trailers: [:])
        }
        sawMetadata = true
        return .metadata(GRPCMetadata(block))
    }

    /// Whether content is to be read as messages.
    var takesMessages: Bool { sawMetadata && !isEnded }

    mutating func trailers(_ block: HeaderBlock, isBetweenMessages: Bool) -> Step {
        guard !isEnded else { return .nothing }
        let status =
            GRPCStatus(trailers: block) ?? httpFailure ?? GRPCStatus(.unknown, "trailers without grpc-status")
        if status.isOK, !isBetweenMessages {
            return end(GRPCStatus(.internal, "the last message is incomplete"), trailers: [:])
        }
        return end(status, trailers: GRPCMetadata(block))
    }

    /// The peer ended the stream with content: a response of gRPC's ends with trailers.
    mutating func endOfContent() -> Step {
        end(httpFailure ?? GRPCStatus(.internal, "response ended without trailers"), trailers: [:])
    }

    /// The call ends for a reason of ours or of the connection's.
    mutating func end(_ status: GRPCStatus, trailers: GRPCMetadata) -> Step {
        guard !isEnded else { return .nothing }
        isEnded = true
        return .ended(status, trailers: trailers)
    }

    static func isGRPC(_ contentType: String?) -> Bool {
        guard let contentType else { return false }
        let type = contentType.lowercased()
        return type == "application/grpc" || type.hasPrefix("application/grpc+")
            || type.hasPrefix("application/grpc;")
    }

    /// A call's request ("Request-Headers"). Timeout first, metadata last.
    static func request(
        path: String, scheme: String, authority: String, timeout: Duration?, userAgent: String,
        metadata: GRPCMetadata
    ) -> HeaderBlock {
        var block = HeaderBlock(method: "POST", scheme: scheme, authority: authority, path: path)
        block.append("te", "trailers")
        if let timeout { block.append("grpc-timeout", GRPCTimeout.encode(timeout)) }
        block.append("content-type", "application/grpc")
        block.append("grpc-accept-encoding", "identity")
        block.append("user-agent", userAgent)
        metadata.append(to: &block)
        return block
    }
}
