import Address
import EventLoop
import HTTP2
import Linux
import TLS
import Transport

/// The server's object of one call, which hears its news on its loop. It is kept alive until `closed`.
public protocol GRPCServerHandler: AnyObject {
    func received(_ message: [UInt8], on call: GRPCServerCall)
    /// The client sends no more messages.
    func halfClosed(_ call: GRPCServerCall)
    /// `isReady` is true again.
    func ready(_ call: GRPCServerCall)
    /// The call is over. Comes exactly once, and last.
    ///
    /// - Parameter status: what `finish` said, `cancelled` when the client took the call back, `deadlineExceeded`, or
    ///   `unavailable` when the connection ended.
    func closed(_ call: GRPCServerCall, _ status: GRPCStatus)
}

extension GRPCServerHandler {
    public func halfClosed(_ call: GRPCServerCall) {}
    public func ready(_ call: GRPCServerCall) {}
    public func closed(_ call: GRPCServerCall, _ status: GRPCStatus) {}
}

/// A call that came. The method's handler is made with it, when its headers have been read.
public final class GRPCServerCall: GRPCCall {
    /// `/package.Service/Method`.
    public private(set) var path = ""
    public private(set) var metadata = GRPCMetadata()
    public private(set) var deadline: MonotonicTime?
    /// What the client has proved; nil without TLS or without a client certificate.
    public let peer: PeerCertificate?
    public let peerAddress: SocketAddress?

    private let server: GRPCServer
    private var handler: (any GRPCServerHandler)?
    private var state = ServerCallState()
    private var final: (status: GRPCStatus, trailers: GRPCMetadata)?
    private var isClosed = false
    private lazy var timer = CallbackTimer { [weak self] in
        self?.finish(GRPCStatus(.deadlineExceeded, "the deadline has passed"), immediately: true)
    }

    init(_ server: GRPCServer, on channel: HTTP2Channel) {
        self.server = server
        peer = channel.peer
        peerAddress = channel.peerAddress
        super.init(
            loop: channel.loop, messageLimit: server.configuration.limits.message,
            queueLimit: server.configuration.limits.queue)
    }

    // MARK: For the application

    /// Sends the initial metadata, once; the first message does it otherwise.
    public func sendMetadata(_ metadata: GRPCMetadata = [:]) {
        if let headers = state.responseHeaders(metadata) { sendHeaders(headers, endStream: false) }
    }

    public func send(_ message: [UInt8]) {
        guard final == nil else { return }
        sendMetadata()
        enqueue(message)
    }

    /// Ends the call behind what was sent.
    public func finish(_ status: GRPCStatus, trailers: GRPCMetadata = [:]) {
        guard final == nil else { return }
        final = (status, trailers)
        endSending()
    }

    /// Whether `finish` was called, or the call is over.
    public var isFinished: Bool { final != nil || isClosed }

    /// - Parameter immediately: without what waits to be sent.
    private func finish(_ status: GRPCStatus, immediately: Bool) {
        guard !isClosed else { return }
        if immediately {
            discard()
            final = (status, [:])
            sentEverything()
        } else {
            finish(status)
        }
    }

    // MARK: From the base

    override var takesMessages: Bool { handler != nil && final == nil }
    override func deliver(_ message: [UInt8]) { handler?.received(message, on: self) }

    override func contentEnded(isWhole: Bool) {
        guard final == nil else { return }
        guard isWhole else { return finish(GRPCStatus(.internal, "the last message is incomplete")) }
        handler?.halfClosed(self)
    }

    override func failed(_ status: GRPCStatus) { finish(status, immediately: true) }
    override func becameReady() { handler?.ready(self) }

    override func sentEverything() {
        guard let final, let trailers = state.finish(final.status, trailers: final.trailers) else { return }
        sendHeaders(trailers, endStream: true)
        // Whatever the client still sends nobody reads (RFC 9113 §8.1).
        if !isRemoteEnded { reset(.noError) }
    }

    // MARK: From the channel

    public override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        do throws(ServerCallState.Rejection) {
            let request = try ServerCallState.accept(headers)
            path = request.path
            metadata = request.metadata
            guard let method = server.method(path) else {
                throw ServerCallState.rejection(
                    GRPCStatus(.unimplemented, "unknown method \(path)"), acceptEncoding: false)
            }
            if let timeout = request.timeout {
                deadline = loop.now + timeout
                loop.schedule(timer, after: timeout)
            }
            handler = method(self)
            if endStream { noteContentEnd() }
        } catch {
            let status = GRPCStatus(trailers: error.response) ?? GRPCStatus(.internal, "not a gRPC request")
            _ = state.finish(status, trailers: [:])
            final = (status, [:])
            sendHeaders(error.response, endStream: true)
            if !isRemoteEnded { reset(.noError) }
        }
    }

    public override func trailersReceived(_ trailers: HeaderBlock) { noteContentEnd() }

    public override func closed(_ reason: StreamClose) {
        guard !isClosed else { return }
        isClosed = true
        loop.cancel(timer)
        discard()
        let status: GRPCStatus
        switch reason {
        case .finished, .cancelled: status = final?.status ?? GRPCStatus(.cancelled)
        case .reset(let code):
            // The whole answer was sent: a client may well reset what it does not need any more.
            status = state.isFinished ? final?.status ?? .ok : GRPCStatus(reset: code)
        case .channel(let close): status = GRPCStatus(.unavailable, "connection ended: \(close)")
        }
        GRPCMetrics.shared.ended(side: "server", status.code)
        let handler = self.handler
        self.handler = nil
        handler?.closed(self, status)
    }
}
