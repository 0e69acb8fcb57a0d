import EventLoop
import HTTP2
import Linux
import Transport

/// Whom a client's call tells its news, on its loop. It is kept alive until the call has ended.
public protocol GRPCClientHandler: AnyObject {
    /// The server's initial metadata: it has taken the call.
    func call(_ call: GRPCClientCall, metadata: GRPCMetadata)
    func call(_ call: GRPCClientCall, received message: [UInt8])
    /// `isReady` is true again.
    func callIsReady(_ call: GRPCClientCall)
    /// The call is over. Comes exactly once, and last.
    func call(_ call: GRPCClientCall, ended status: GRPCStatus, trailers: GRPCMetadata)
}

extension GRPCClientHandler {
    public func call(_ call: GRPCClientCall, metadata: GRPCMetadata) {}
    public func callIsReady(_ call: GRPCClientCall) {}
}

/// A call of ours, unary or streaming. Made by `GRPCChannel`.
public final class GRPCClientCall: GRPCCall {
    /// `/package.Service/Method`.
    public let path: String
    let metadata: GRPCMetadata
    let waitsForReady: Bool
    let deadline: MonotonicTime?
    private var state = ClientCallState()
    private var handler: (any GRPCClientHandler)?
    /// Trailers that came before the application took the last message.
    private var trailers: HeaderBlock?
    private let metrics: GRPCMetrics
    private lazy var timer = CallbackTimer { [weak self] in
        self?.end(GRPCStatus(.deadlineExceeded, "the deadline has passed"), code: .cancel)
    }

    init(
        loop: EventLoop, path: String, metadata: GRPCMetadata, timeout: Duration?, waitsForReady: Bool,
        limits: GRPCLimits, handler: any GRPCClientHandler
    ) {
        self.path = path
        self.metadata = metadata
        self.waitsForReady = waitsForReady
        self.handler = handler
        deadline = timeout.map { loop.now + $0 }
        metrics = GRPCMetrics.shared
        super.init(loop: loop, messageLimit: limits.message, queueLimit: limits.queue)
        if let timeout { loop.schedule(timer, after: max(timeout, .zero)) }
    }

    // MARK: For the application

    /// Sends a message, or queues it until the channel is ready and the peer has room.
    public func send(_ message: [UInt8]) { enqueue(message) }

    /// Sends no more messages: the server's `halfClosed`.
    public func halfClose() { endSending() }

    /// Ends the call; the handler hears `cancelled` before this returns.
    public func cancel() {
        end(GRPCStatus(.cancelled, "cancelled by the caller"), code: .cancel)
    }

    public var isEnded: Bool { state.isEnded }

    /// What remains until the deadline, nil without one.
    var remaining: Duration? { deadline.map { $0 - loop.now } }

    // MARK: The end

    /// Ends the call for a reason that is not the server's trailers.
    func end(_ status: GRPCStatus, code: ErrorCode = .cancel) {
        perform(state.end(status, trailers: [:]), code: code)
    }

    private func perform(_ step: ClientCallState.Step, code: ErrorCode = .cancel) {
        switch step {
        case .nothing: break
        case .metadata(let metadata): handler?.call(self, metadata: metadata)
        case .ended(let status, let trailers):
            loop.cancel(timer)
            discard()
            // Nothing more is wanted of a stream that is still open either way.
            if channel != nil, !isLocalEnded || !isRemoteEnded { reset(status.isOK ? .noError : code) }
            metrics.ended(side: "client", status.code)
            let handler = self.handler
            self.handler = nil
            handler?.call(self, ended: status, trailers: trailers)
        }
    }

    // MARK: From the base

    override var takesMessages: Bool { state.takesMessages }
    override var endsStreamWithContent: Bool { true }

    override func deliver(_ message: [UInt8]) {
        handler?.call(self, received: message)
    }

    override func contentEnded(isWhole: Bool) {
        if let trailers {
            perform(state.trailers(trailers, isBetweenMessages: isWhole))
        } else {
            perform(state.endOfContent())
        }
    }

    override func failed(_ status: GRPCStatus) { end(status) }
    override func becameReady() { handler?.callIsReady(self) }
    override func sentEverything() { finish() }

    // MARK: From the channel

    public override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        perform(state.headers(headers, endStream: endStream))
    }

    public override func trailersReceived(_ trailers: HeaderBlock) {
        self.trailers = trailers
        noteContentEnd()
    }

    public override func closed(_ reason: StreamClose) {
        // The answer is whole, only the application has yet to take it: a server that ends a call before its client
        // does resets the stream behind the trailers.
        guard trailers == nil else { return }
        switch reason {
        case .finished: perform(state.endOfContent())
        case .reset(let code), .cancelled(let code): end(GRPCStatus(reset: code))
        case .channel(let close): end(GRPCStatus(.unavailable, "connection ended: \(close)"))
        }
    }
}
