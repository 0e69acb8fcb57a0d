import EventLoop
import HTTP2
import Mesh
import Transport

/// One connection inside a tunnel: an HTTP/2 CONNECT stream (RFC 9113 §8.5).
///
/// First it belongs to an attempt (client) or a request (server), then to a relay.
public final class TunnelStream: HTTP2Stream {
    enum Holder {
        case attempt(TunnelAttempt)
        case request(TunnelRequest)
        case relay(StreamRelay)
        case bytes(any ByteChannelDelegate)
        case none
    }

    var holder = Holder.none
    /// The tunnel of a pool whose place this stream takes until it has ended.
    var tunnel: PooledTunnel?
    /// What is to be done with a request, once it has become a stream.
    var onHeaders: (() -> Void)?
    /// Content that came before there was a relay: a client may send without waiting for the answer.
    private var early: [UInt8] = []

    /// What is kept of it; clients of our kind send less.
    static let earlyLimit = 64 << 10

    /// Bytes of the application that went along with the CONNECT. They are still to be read from its socket.
    private(set) var firstByteCount = 0

    /// What goes along at most: a request, or the beginning of one that is larger.
    static let firstBytesLimit = 16 << 10

    /// Sends what the application has said so far; behind the CONNECT, and mostly in the same record.
    func send(_ firstBytes: any FirstBytes, atMost room: Int) {
        let limit = min(Self.firstBytesLimit, room)
        guard limit > 0, let area = unsafe reserve(limit) else { return }
        firstByteCount = unsafe firstBytes.peek(into: area)
        commit(firstByteCount)
        guard firstByteCount > 0 else { return }
        TunnelMetrics.shared.firstBytesSent.add()
        if firstByteCount == area.count { TunnelMetrics.shared.firstBytesCut.add() }
    }

    public override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        if let begin = onHeaders {
            onHeaders = nil
            return begin()
        }
        if case .attempt(let attempt) = holder { attempt.answered(headers) }
    }

    public override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        switch holder {
        case .relay(let relay):
            unsafe relay.received(bytes)
            if endStream { relay.remoteEnded() }
        case .bytes(let delegate):
            if unsafe !bytes.isEmpty { unsafe delegate.received(bytes) }
            // Behind what this read brought.
            if endStream { tellEnd() }
        case .attempt, .request, .none: unsafe keep(bytes)
        }
    }

    public override func trailersReceived(_ trailers: HeaderBlock) {
        switch holder {
        case .relay(let relay): relay.remoteEnded()
        case .bytes: tellEnd()
        case .attempt, .request, .none: break
        }
    }

    public override func batchEnded() {
        switch holder {
        case .relay(let relay): relay.batchEnded()
        case .bytes(let delegate): delegate.batchEnded()
        case .attempt, .request, .none: break
        }
    }

    public override func writable() {
        switch holder {
        case .relay(let relay): relay.writable()
        case .bytes(let delegate): delegate.writable()
        case .attempt, .request, .none: break
        }
    }

    /// What came before the end is handed over whole first.
    private func tellEnd() {
        guard case .bytes(let delegate) = holder else { return }
        delegate.batchEnded()
        if case .bytes(let current) = holder { current.remoteEnded() }
    }

    public override func closed(_ reason: StreamClose) {
        early = []
        onHeaders = nil
        tunnel?.streamEnded()
        tunnel = nil
        let last = holder
        holder = .none
        switch last {
        case .attempt(let attempt): attempt.streamClosed(reason)
        case .request(let request): request.streamClosed()
        case .relay(let relay): relay.streamClosed(reason)
        case .bytes(let delegate):
            delegate.closed(ByteChannelClose(reason, isRemoteEnded: isRemoteEnded))
        case .none: break
        }
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) {
        guard unsafe !bytes.isEmpty else { return }
        guard early.count + bytes.count <= Self.earlyLimit else {
            TunnelMetrics.shared.earlyDataRefusals.add()
            return reset(.enhanceYourCalm)
        }
        unsafe early.append(contentsOf: bytes)
    }

    /// Makes a relay the holder.
    ///
    /// - Returns: the content that came before; it has not been consumed.
    func attach(_ relay: StreamRelay) -> EarlyContent {
        holder = .relay(relay)
        defer { early = [] }
        return EarlyContent(bytes: early)
    }

    /// As `attach`, for who knows it as a byte channel.
    func attach(_ delegate: any ByteChannelDelegate) -> EarlyContent {
        holder = .bytes(delegate)
        defer { early = [] }
        return EarlyContent(bytes: early)
    }

    func detach() { holder = .none }

    /// Gives up a connection that nobody here wants any more. Once the peer's application may have bytes of it, they must
    /// not look like all there was to come: a peer may take CANCEL for an orderly end, but CONNECT_ERROR is a reset
    /// (RFC 9113 §8.5).
    public func abandon() { reset(firstByteCount > 0 ? .connectError : .cancel) }
}

/// Content that waited for its relay.
struct EarlyContent {
    fileprivate let bytes: [UInt8]

    var isEmpty: Bool { bytes.isEmpty }

    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        unsafe bytes.withUnsafeBytes { unsafe body($0) }
    }
}
