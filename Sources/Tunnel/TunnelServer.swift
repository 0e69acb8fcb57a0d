import Address
import EventLoop
import HTTP2
import Linux
import Mesh
import TLS
import Transport

/// Whom a tunnel server asks. All calls come on its loop.
public protocol TunnelServerDelegate: AnyObject {
    /// A client asks for a connection. Answer with `refuse` or `accept`, now or later.
    func tunnel(_ server: TunnelServer, requested request: TunnelRequest)

    /// A request was no CONNECT; it has been answered.
    func tunnel(_ server: TunnelServer, refused request: TunnelRequest, _ reason: CloseReason)

    /// The tunnel is over, and every request and relay of it has been told. Comes exactly once.
    func tunnelClosed(_ server: TunnelServer, _ reason: ChannelClose)
}

/// The server's side of one tunnel: an accepted connection on the HBONE port, from its handshake on. Bound to its loop,
/// which keeps it alive until it is over.
public final class TunnelServer {
    public let loop: EventLoop
    private weak var delegate: (any TunnelServerDelegate)?
    private var channel: HTTP2Channel?
    /// Keeps us alive as long as the channel lives.
    private var selfWhileOpen: TunnelServer?
    public private(set) var peerAddress: SocketAddress?
    public private(set) var localAddress: SocketAddress?
    /// What the client proved; nil before the handshake is done.
    public private(set) var peer: PeerCertificate?
    public let since = WallClock.now()

    /// Where our peers say why they refuse; others ignore it.
    static let reasonHeader = "x-warren-reason"
    static let reasonLimit = 256

    /// - Parameters:
    ///   - socket: accepted, with nothing read yet.
    ///   - context: of the destination's certificate, made by `TLSConfiguration.meshServer`.
    ///   - share: what the pod may move in a turn of the loop.
    public init(
        loop: EventLoop, socket: consuming Socket, context: TLSContext,
        configuration: ChannelConfiguration = ChannelConfiguration(), share: TurnShare? = nil,
        delegate: any TunnelServerDelegate
    ) throws {
        self.loop = loop
        self.delegate = delegate
        let session = try TLSSession(context)
        channel = nil
        let channel = try HTTP2Channel.server(
            on: loop, socket: socket, tls: session, configuration: configuration, share: share, delegate: self
        )
        self.channel = channel
        peerAddress = channel.peerAddress
        localAddress = channel.localAddress
        selfWhileOpen = self
    }

    public var openStreams: Int { channel?.openStreams ?? 0 }

    /// By which TCP congestion control the tunnel sends, as the kernel calls it.
    public var congestionControl: String { channel?.congestionControl ?? "" }

    /// Takes no new connections (GOAWAY); ends with the last one.
    public func drain() { channel?.drain() }

    /// Ends at once, connections included.
    public func close() { channel?.close() }
}

extension TunnelServer: HTTP2ChannelDelegate {
    public func channelReady(_ channel: HTTP2Channel) { peer = channel.peer }

    public func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        guard let delegate, let peer else { return nil }
        let stream = TunnelStream()
        let request = TunnelRequest(stream, headers, peer: peer, peerAddress, localAddress)
        stream.holder = .request(request)
        stream.onHeaders = { [unowned self, weak delegate] in
            guard request.method == "CONNECT" else {
                let reason = CloseReason.notConnect(method: String(request.method.prefix(32)))
                request.refuse(reason)
                delegate?.tunnel(self, refused: request, reason)
                return
            }
            delegate?.tunnel(self, requested: request)
        }
        return stream
    }

    public func channelCapacityChanged(_ channel: HTTP2Channel) {}

    public func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        self.channel = nil
        let delegate = self.delegate
        self.delegate = nil
        delegate?.tunnelClosed(self, reason)
        selfWhileOpen = nil
    }
}

/// A client's wish for a connection to an application of ours.
public final class TunnelRequest {
    public let method: String
    /// `address:port` or `host:port`, as it came.
    public let authority: String
    public let headers: HeaderBlock
    public let peer: PeerCertificate
    public let peerAddress: SocketAddress?
    public let localAddress: SocketAddress?
    /// Told when the client gives up before it has an answer.
    public var onAbandoned: (() -> Void)?

    private var stream: TunnelStream?

    init(
        _ stream: TunnelStream, _ headers: HeaderBlock, peer: PeerCertificate, _ peerAddress: SocketAddress?,
        _ localAddress: SocketAddress?
    ) {
        self.stream = stream
        self.headers = headers
        self.peer = peer
        self.peerAddress = peerAddress
        self.localAddress = localAddress
        method = headers.method ?? ""
        authority = headers.authority ?? ""
    }

    /// Answers with the reason's status and ends the stream. The reason itself goes along for peers of our kind.
    public func refuse(_ reason: CloseReason) {
        guard let stream else { return }
        self.stream = nil
        onAbandoned = nil
        stream.holder = .none
        var answer = HeaderBlock(status: reason.hboneStatus)
        answer.append(TunnelServer.reasonHeader, Self.headerValue("\(reason)"))
        stream.sendHeaders(answer, endStream: true)
        // The client's side must end too, without a reset where it knows how to end it.
        // So must a stream whose end came before the refusal: nobody will consume what it brought.
        if !stream.isRemoteEnded || stream.unconsumedBytes > 0 { stream.reset(.noError) }
    }

    /// Answers 200: the application is connected.
    ///
    /// - Parameter headers: beside `:status`, such as `baggage`.
    /// - Returns: the stream, for a relay; nil when the client has given up meanwhile.
    public func accept(headers: [Header] = []) -> TunnelStream? {
        guard let stream else { return nil }
        self.stream = nil
        onAbandoned = nil
        stream.holder = .none
        var answer = HeaderBlock(status: 200)
        for header in headers { answer.append(header) }
        guard stream.sendHeaders(answer, endStream: false) else { return nil }
        return stream
    }

    func streamClosed() {
        stream = nil
        let report = onAbandoned
        onAbandoned = nil
        report?()
    }

    /// Visible ASCII and blanks, at most so many bytes: what RFC 9110 §5.5 takes without a question.
    private static func headerValue(_ text: String) -> String {
        let bytes = text.utf8.prefix(TunnelServer.reasonLimit).map {
            $0 >= 0x20 && $0 < 0x7f ? $0 : UInt8(ascii: "?")
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
