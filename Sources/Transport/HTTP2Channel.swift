import Address
import EventLoop
import HTTP2
import Linux
import Log
import TLS

/// Whom a channel tells what happens on it. All calls come on the channel's loop.
public protocol HTTP2ChannelDelegate: AnyObject {
    /// The connection is made and, with TLS, the peer is known: streams may be opened.
    func channelReady(_ channel: HTTP2Channel)

    /// The peer opens a stream. Servers only.
    ///
    /// - Returns: the object that is this stream from now on (its `headersReceived` follows); nil refuses it
    ///   (REFUSED_STREAM).
    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream?

    /// `canOpenStream` may have changed: a stream ended, the peer's settings came, or its GOAWAY.
    func channelCapacityChanged(_ channel: HTTP2Channel)

    /// The channel is over and each of its streams has been told. Comes exactly once, and last.
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose)
}

/// The limits of a channel in time.
public struct ChannelConfiguration: Sendable {
    public var http2: HTTP2Configuration
    /// For a connection that is being made.
    public var connectDeadline = Duration.seconds(10)
    public var handshakeDeadline = Duration.seconds(10)
    /// A PING is sent when nothing came for so long; nil never.
    public var keepAliveInterval: Duration? = .seconds(10)
    /// How long the peer may take to say anything after our PING.
    public var keepAliveDeadline = Duration.seconds(20)
    /// How long the socket waits, after our last byte, for the peer to close as well. Closed at once, it could send a
    /// reset that takes our last words from the peer.
    public var lingerDeadline = Duration.seconds(2)
    /// What the socket was made with, and what it changes to when the handshake has shown the path.
    public var congestion = CongestionPlan.system

    public init(_ http2: HTTP2Configuration = .mesh) {
        self.http2 = http2
    }
}

/// A socket, its TLS session and its HTTP/2 machine joined on a loop: the one driver under tunnels and calls.
///
/// Reads up to 2 MiB at a time and passes content on where it lies. What streams send is gathered in one buffer and goes
/// out at the end of the turn: in full TLS records, with one system call. A stream that does not consume stops by its
/// window, never the channel; streams that wait to write are served in turn.
public final class HTTP2Channel: Pollable {
    enum Phase { case connecting, handshaking, open, lingering, closed }

    public let loop: EventLoop
    public let role: HTTP2Connection.Role
    public let configuration: ChannelConfiguration
    public weak var delegate: (any HTTP2ChannelDelegate)?
    /// Our end and the other one, canonical; nil on Unix sockets.
    public internal(set) var localAddress: SocketAddress?
    public internal(set) var peerAddress: SocketAddress?
    /// Bytes that went through the socket.
    public internal(set) var receivedBytes = 0
    public internal(set) var sentBytes = 0

    var phase: Phase
    var socket: Socket?
    let session: TLSSession?
    /// What may be read in a turn, with the other connections of the workload; nil for one that is nobody's.
    let share: TurnShare?
    var connection: HTTP2Connection
    var registration = Registration.none
    var gather: GatherBuffer
    /// Bytes of sealed output that the loop's budget counts.
    var chargedBytes = 0
    var streams = StreamTable()
    /// Streams that wait for room, in the order in which they get it.
    var waiting = StreamQueue()
    /// Streams whose end has to be told at the end of the turn.
    var ended: [(stream: HTTP2Stream, reason: StreamClose)] = []
    /// Streams that got content in the read that is being worked on.
    var batch: ContiguousArray<HTTP2Stream> = []
    /// The socket took less than we had: its event is waited for.
    var isBlocked = false
    /// The loop's memory is used up: writers wait for `memoryTimer`.
    var isStarved = false
    /// Why the channel ends at the end of this turn.
    var ending: ChannelClose?
    var isDraining = false
    var peerGoAway: ErrorCode?
    var hasCapacityNews = false
    var isShutDown = false
    /// A FIN follows what is written.
    var isLast = false
    /// HTTP/2 may be spoken: with TLS, from the end of the handshake until the session fails.
    var canSpeak = false

    // One stream's turn to write.
    var served: HTTP2Stream?
    var servedBytes = 0
    var reservation: Reservation?

    var lastReceived: MonotonicTime
    var pingedAt: MonotonicTime?
    let deadlineTimer = ChannelTimer { $0.deadlinePassed() }
    let keepAliveTimer = ChannelTimer { $0.checkPeerIsAlive() }
    let memoryTimer = ChannelTimer { $0.memoryMayBeBack() }
    let metrics = TransportMetrics.shared
    static let logger = Logger(scope: "transport")

    /// A channel over a connection that is being made (`Socket.connect`), or is made.
    ///
    /// - Parameters:
    ///   - tls: a client session; nil speaks HTTP/2 with prior knowledge in the clear (RFC 9113 §3.3).
    ///   - share: of the workload whose tunnel it is.
    public static func client(
        on loop: EventLoop, socket: consuming Socket, tls: TLSSession?,
        configuration: ChannelConfiguration = ChannelConfiguration(), share: TurnShare? = nil,
        delegate: any HTTP2ChannelDelegate
    ) throws(SystemCallError) -> HTTP2Channel {
        try HTTP2Channel(.client, loop, socket, tls, configuration, share, delegate)
    }

    /// A channel over an accepted connection.
    ///
    /// - Parameter share: as for `client`.
    public static func server(
        on loop: EventLoop, socket: consuming Socket, tls: TLSSession?,
        configuration: ChannelConfiguration = ChannelConfiguration(), share: TurnShare? = nil,
        delegate: any HTTP2ChannelDelegate
    ) throws(SystemCallError) -> HTTP2Channel {
        try HTTP2Channel(.server, loop, socket, tls, configuration, share, delegate)
    }

    private init(
        _ role: HTTP2Connection.Role, _ loop: EventLoop, _ socket: consuming Socket, _ session: TLSSession?,
        _ configuration: ChannelConfiguration, _ share: TurnShare?, _ delegate: any HTTP2ChannelDelegate
    ) throws(SystemCallError) {
        self.role = role
        self.loop = loop
        self.configuration = configuration
        self.session = session
        self.share = share
        self.delegate = delegate
        connection = HTTP2Connection(role: role, configuration.http2)
        gather = GatherBuffer(loop.buffers)
        lastReceived = loop.now
        // A client waits for the socket to become writable, which an established one is at once.
        phase = role == .client ? .connecting : session == nil ? .open : .handshaking
        localAddress = socket.localAddress
        peerAddress = socket.peerAddress
        if localAddress != nil { socket.setNoDelay() }
        self.socket = nil
        super.init()
        registration = try loop.register(
            self, socket, phase == .connecting ? [.writable] : [.readable, .peerClosed])
        self.socket = consume socket
        metrics.opened.add()
        switch phase {
        case .connecting: deadlineTimer.arm(self, after: configuration.connectDeadline)
        case .handshaking: deadlineTimer.arm(self, after: configuration.handshakeDeadline)
        case .open, .lingering, .closed:
            canSpeak = true
            startKeepAlive()
        }
        loop.atEndOfTurn(self)
    }

    public override func ready(_ events: Events) {
        react(to: events)
    }

    public override func resumed() {
        react(to: .readable)
    }

    public override func endOfTurn() {
        finishTurn()
    }

    // MARK: What its users ask

    /// What the peer has proved; nil without TLS, before the handshake is done, and for a client without a certificate.
    public var peer: PeerCertificate? { session?.peer }

    /// The connection is made, the peer is known, and the end has not begun.
    public var isOpen: Bool { phase == .open && ending == nil }

    /// Streams that are open or half closed.
    public var openStreams: Int { streams.count }

    /// Whether `open` would succeed now. Clients only.
    public var canOpenStream: Bool { isOpen && !isDraining && connection.canOpenStream }

    /// Streams that the peer lets us have open at once; before its SETTINGS came, what we assume.
    public var streamLimit: Int { connection.peerMaxConcurrentStreams }

    /// Whether streams that stand still have taken most of what all streams of the channel share: another one would wait
    /// behind them, in one direction or in the other.
    public var isCongested: Bool {
        connection.heldBytes > configuration.http2.connectionWindow / 2 || connection.sendRoom <= 0
    }

    /// Whether the peer speaks HTTP/2 with us, so that it has taken our certificate too, and has said something less than
    /// this ago. Of another nobody knows whether it is still there.
    public func wasHeard(within limit: Duration) -> Bool {
        isOpen && connection.settingsSeen && loop.now - lastReceived < limit
    }

    /// Bytes that wait to be sent.
    public var unsentBytes: Int {
        gather.count + (canSpeak ? connection.pending.count : 0) + (session?.output.count ?? 0)
    }

    /// Opens a stream with a request. Clients only, on an open channel.
    ///
    /// - Throws: `streamLimit`, `goingAway` or `streamsExhausted`: try another channel.
    public func open(_ stream: HTTP2Stream, headers: HeaderBlock, endStream: Bool) throws(HTTP2Error) {
        precondition(stream.channel == nil && stream.id == 0, "a stream is opened once")
        guard isOpen, !isDraining else { throw .goingAway }
        let id = try connection.openStream(headers, endStream: endStream)
        attach(stream, id)
        stream.isLocalEnded = endStream
        loop.atEndOfTurn(self)
    }

    /// Takes no new streams, lets the open ones finish, then ends.
    public func drain() {
        guard !isDraining else { return }
        isDraining = true
        if phase == .open { connection.drain() }
        loop.atEndOfTurn(self)
    }

    /// Ends the channel in this turn: its streams are told, the peer gets a GOAWAY behind what was already sent.
    public func close(_ reason: ChannelClose = .local) {
        fail(reason)
    }

    /// Notes the first reason to end; the end itself comes with the end of the turn, when nobody is in a callback.
    func fail(_ reason: ChannelClose) {
        guard ending == nil, phase != .lingering, phase != .closed else { return }
        ending = reason
        if case .tls = reason {
            // Nothing can be sealed any more; the alert that says why is in the session's output already.
            canSpeak = false
            gather.clear()
        }
        loop.atEndOfTurn(self)
    }

    func attach(_ stream: HTTP2Stream, _ id: StreamID) {
        stream.id = id
        stream.channel = self
        streams.insert(stream)
        metrics.streams.add()
    }

    /// Watches for what the channel waits for, and nothing else.
    func updateInterest() {
        var interest: Events = phase == .connecting ? [] : [.readable, .peerClosed]
        if isBlocked || phase == .connecting { interest.insert(.writable) }
        loop.update(registration, interest)
    }
}

/// A deadline of a channel, which it keeps alive while it is armed.
///
/// It holds no weak reference: an object with one has its references counted elsewhere, at three times the cost, and a
/// channel's are counted for each message.
final class ChannelTimer: LoopTimer {
    private var channel: HTTP2Channel?
    private let action: (HTTP2Channel) -> Void

    init(_ action: @escaping (HTTP2Channel) -> Void) {
        self.action = action
    }

    func arm(_ channel: HTTP2Channel, after delay: Duration) {
        self.channel = channel
        channel.loop.schedule(self, after: delay)
    }

    func disarm() {
        channel?.loop.cancel(self)
        channel = nil
    }

    override func fired() {
        let expired = channel
        // Before the action, which may arm it again.
        channel = nil
        if let expired { action(expired) }
    }
}
