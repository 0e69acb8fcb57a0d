import Address
import EventLoop
import HTTP2
import Mesh
import TLS
import Transport

/// Where a connection is to go through a tunnel.
public struct TunnelTarget: Sendable {
    public let key: TunnelKey
    /// `:authority`: `address:port`, `[address]:port` or `host:port`.
    public let authority: String
    /// What goes with it: `baggage`, `forwarded`, `traceparent`.
    public let headers: [Header]

    public init(
        source: Identity, expected: [Identity], address: SocketAddress, authority: String, headers: [Header]
    ) {
        key = TunnelKey(source: source, expected: expected, address: address)
        self.authority = authority
        self.headers = headers
    }
}

/// An application whose first bytes may go along with the CONNECT.
public protocol FirstBytes: AnyObject {
    /// Copies what the application has sent so far; it stays where it is.
    ///
    /// - Returns: how many bytes; 0 when there are none.
    func peek(into area: UnsafeMutableRawBufferPointer) -> Int
}

/// How an attempt ended.
public enum TunnelOutcome {
    /// The peer is connected to its application. The stream waits for a relay, or to be reset.
    case opened(TunnelStream, headers: HeaderBlock, peer: PeerCertificate?)
    /// No application has had any of it: another endpoint may be tried. One of `connectFailed`, `hboneTimedOut`, `tlsFailed`,
    /// `http2Failed`, `refusedByPeer`, `identityUnavailable`, `limitReached`.
    case failed(CloseReason)
    /// The first bytes were sent, and nobody knows whether an application has them: nothing may be tried again, or a request
    /// might reach two.
    case lost(CloseReason)
}

/// One connection's way into a tunnel, from the question to the peer's answer.
public final class TunnelAttempt {
    let target: TunnelTarget
    var id: PoolTable.WaiterID = 0
    private let pool: TunnelPool
    private var completion: ((TunnelOutcome) -> Void)?
    private var stream: TunnelStream?
    private var firstBytes: (any FirstBytes)?
    private var triesLeft = 1
    private lazy var deadline = CallbackTimer { [weak self] in self?.deadlinePassed() }

    init(
        _ pool: TunnelPool, _ target: TunnelTarget, _ firstBytes: (any FirstBytes)?,
        _ completion: @escaping (TunnelOutcome) -> Void
    ) {
        self.pool = pool
        self.target = target
        self.firstBytes = firstBytes
        self.completion = completion
    }

    /// Gives the attempt up; the completion is not called.
    public func cancel() {
        guard completion != nil else { return }
        completion = nil
        firstBytes = nil
        pool.loop.cancel(deadline)
        if let stream {
            stream.abandon()
        } else {
            pool.cancel(self)
        }
    }

    func begin(
        on tunnel: PooledTunnel, _ channel: HTTP2Channel, _ configuration: TunnelPool.Configuration
    ) throws(HTTP2Error) {
        var headers = HeaderBlock(connect: target.authority)
        for header in target.headers { headers.append(header) }
        let stream = TunnelStream()
        stream.holder = .attempt(self)
        stream.tunnel = tunnel
        try channel.open(stream, headers: headers, endStream: false)
        self.stream = stream
        if let firstBytes, channel.wasHeard(within: configuration.firstBytesWithin) {
            stream.send(firstBytes, atMost: pool.firstByteRoom)
            pool.spend(stream.firstByteCount)
        }
        pool.loop.schedule(deadline, after: configuration.answerDeadline)
    }

    /// The peer's answer (ztunnel.md §2.4).
    func answered(_ headers: HeaderBlock) {
        guard let stream, let status = headers.status, status >= 200 else { return }
        let peer = stream.channel?.peer
        guard status == 200 else {
            // Its END_STREAM mostly came along; where not, it is reset.
            let reason = headers[TunnelServer.reasonHeader].map {
                String($0.prefix(TunnelServer.reasonLimit))
            }
            stream.holder = .none
            stream.reset(.cancel)
            return end(.failed(.refusedByPeer(status: status, reason: reason ?? "")))
        }
        stream.holder = .none
        end(.opened(stream, headers: headers, peer: peer))
    }

    /// The stream ended before an answer.
    func streamClosed(_ reason: StreamClose) {
        // A refusal is proof that nobody has begun (RFC 9113 §8.7), and so is a GOAWAY that ends before the stream, which
        // comes as one. Anything else is none.
        let mayHaveBegun = stream?.firstByteCount ?? 0 > 0 && reason != .reset(.refusedStream)
        stream = nil
        pool.loop.cancel(deadline)
        guard completion != nil else { return }
        guard !mayHaveBegun else { return lose(reason.withoutAnswer) }
        switch reason {
        case .reset(.refusedStream), .channel(.peerEnded), .channel(.peerLeft), .channel(.drained),
            .channel(.socket):
            // A tunnel that was kept and had died: its peer never took the request, or never answered it, and no application
            // has anything of ours.
            guard triesLeft > 0 else { break }
            triesLeft -= 1
            TunnelMetrics.shared.retried.add()
            return pool.enqueue(self)
        default: break
        }
        end(.failed(reason.withoutAnswer))
    }

    private func lose(_ reason: CloseReason) {
        TunnelMetrics.shared.firstBytesLost.add()
        end(.lost(.unanswered("\(reason)")))
    }

    /// For a tunnel with room; `begin` sets the next deadline.
    func wait(atMost limit: Duration) { pool.loop.schedule(deadline, after: limit) }

    private func deadlinePassed() {
        guard completion != nil else { return }
        guard let stream else {
            pool.cancel(self)
            return end(.failed(.limitReached("no tunnel had room in time")))
        }
        stream.holder = .none
        self.stream = nil
        stream.abandon()
        if stream.firstByteCount > 0 { return lose(.connectTimedOut) }
        end(.failed(.connectTimedOut))
    }

    func end(_ outcome: TunnelOutcome) {
        pool.loop.cancel(deadline)
        let report = completion
        completion = nil
        firstBytes = nil
        stream = nil
        report?(outcome)
    }
}

extension StreamClose {
    /// Why a connection failed whose stream ended before it had an answer.
    fileprivate var withoutAnswer: CloseReason {
        switch self {
        case .finished: .http2Failed("the stream ended without an answer")
        case .reset(let code): .http2Failed("the peer reset the stream: \(code)")
        case .cancelled: .connectTimedOut
        case .channel(let close): CloseReason(close)
        }
    }
}
