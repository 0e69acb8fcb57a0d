/// One HTTP/2 connection as a pure machine (RFC 9113): bytes in, events out, frames to send in `output`.
///
/// It holds no socket, no clock and no content. DATA of the peer is passed on where it lies; DATA of ours is framed in
/// the caller's buffer by `frameData`. What it does keep is bounded: streams by `maxConcurrentStreams`, a header block by
/// `maxHeaderList`, replies by `maxUnreadReplies`, and what an attacker can make it do for nothing by `glitches`.
///
/// The driver
/// - sets `now` before it feeds input, for the budgets refill with time;
/// - calls `next` until it returns nil, for each piece of input;
/// - takes `output` before it frames DATA, because a HEADERS of the same stream may wait in it.
public struct HTTP2Connection: ~Copyable {
    public enum Role: Sendable { case client, server }

    public let role: Role
    let configuration: HTTP2Configuration

    /// Seconds of any monotonic clock.
    public var now: Int64 = 0

    // MARK: What is being read

    enum Phase { case preface, frameHeader, padLength, content, payload, skip }

    var phase: Phase
    var frame = FrameHeader()
    /// Bytes of the frame's payload that have not been read; while content is read, without the padding.
    var remaining = 0
    var padding = 0
    var prefaceMatched = 0
    public internal(set) var settingsSeen = false
    /// A frame header, or a payload that must be whole to be understood, that comes in pieces.
    var partial = ByteQueue()
    /// The stream whose header block is being collected; 0 when none is.
    var blockStream: StreamID = 0
    var blockEndsStream = false
    var continuations = 0
    var block = ByteQueue()
    let decoder = HeaderDecoder()
    var budgets: [GlitchBudget]
    /// Why the connection is over.
    var failure: HTTP2Error?

    // MARK: Streams

    var streams = StreamTable()
    var recentResets = RecentResets()
    var receiveWindow: ReceiveWindow
    var sendWindow = SendWindow(65_535)
    /// The identifier that `openStream` gives next.
    var nextLocalStream: StreamID = 1
    /// The highest stream that the peer has opened.
    var lastPeerStream: StreamID = 0
    /// Streams of ours that the peer's GOAWAY refused and that have yet to be reported.
    var refused: [StreamID] = []
    /// Streams with both sides ended whose last bytes the application has yet to consume: not counted as open.
    var drainingStreams = 0

    // MARK: What the peer allows

    var peerInitialWindow = 65_535
    var peerMaxFrame = 16_384 {
        didSet { largestContent = min(peerMaxFrame, Self.contentLimit) }
    }
    /// The largest DATA payload that we make: what the peer takes, and no more than `contentLimit`.
    public private(set) var largestContent = 16_384
    /// A longer one gains nothing and makes other streams wait.
    private static let contentLimit = 1 << 20
    /// Streams that we may have open at once.
    public internal(set) var peerMaxConcurrentStreams: Int
    /// Bytes of a header list that the peer wants to see at most; nil when it did not say.
    public internal(set) var peerMaxHeaderList: Int?
    /// The peer takes extended CONNECT (RFC 8441).
    public internal(set) var peerEnablesConnectProtocol = false
    /// The last stream of ours that the peer's GOAWAY promises to look at; nil before one came.
    public internal(set) var peerGoAway: StreamID?
    /// The last stream of the peer's that our GOAWAY promised to look at; nil before we sent one.
    public internal(set) var sentGoAway: StreamID?

    // MARK: What is to be sent

    /// Frames that wait to be sent.
    public internal(set) var pending = ByteQueue()
    /// Bytes of replies in `pending`, at most: reset when it is empty.
    var replyBytes = 0
    let encoder = HeaderEncoder()
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    /// The PING behind the first GOAWAY of `drain`.
    static let drainPing: UInt64 = 0x7761_7272_656e_2e2e

    /// A connection of which nothing is exchanged yet. The preface, SETTINGS and the connection's WINDOW_UPDATE are
    /// already in `output` (§3.4).
    public init(role: Role, _ configuration: HTTP2Configuration) {
        precondition(
            (65_535...SendWindow.limit).contains(configuration.initialWindow)
                && (65_535...SendWindow.limit).contains(configuration.connectionWindow)
                && (16_384...16_777_215).contains(configuration.maxFrame),
            "HTTP/2 limits out of RFC 9113's range")
        self.role = role
        self.configuration = configuration
        phase = role == .server ? .preface : .frameHeader
        receiveWindow = ReceiveWindow(size: configuration.connectionWindow)
        peerMaxConcurrentStreams = role == .client ? configuration.assumedPeerStreams : 0
        budgets = Glitch.allCases.map { GlitchBudget(configuration.glitches[$0]) }
        greet()
    }

    private mutating func greet() {
        var settings: [(UInt16, Int)] = [
            (SettingID.initialWindowSize, configuration.initialWindow),
            (SettingID.maxFrameSize, configuration.maxFrame),
            (SettingID.maxHeaderListSize, configuration.maxHeaderList),
        ]
        switch role {
        case .client:
            for byte in Self.preface { pending.append(byte) }
            settings.append((SettingID.enablePush, 0))
        case .server:
            settings.append((SettingID.maxConcurrentStreams, configuration.maxConcurrentStreams))
            if configuration.enableConnectProtocol { settings.append((SettingID.enableConnectProtocol, 1)) }
        }
        pending.appendFrameHeader(length: settings.count * 6, type: FrameType.settings, flags: 0, stream: 0)
        for (identifier, value) in settings {
            pending.append(UInt64(identifier), width: 2)
            pending.append(UInt64(clamping: value), width: 4)
        }
        let increment = configuration.connectionWindow - 65_535
        if increment > 0 { queueWindowUpdate(stream: 0, increment) }
    }

    // MARK: What the driver asks

    /// Streams that are open or half closed.
    public var openStreams: Int { streams.count - drainingStreams }

    /// Whether `openStream` would succeed now. Clients only.
    public var canOpenStream: Bool {
        failure == nil && peerGoAway == nil && sentGoAway == nil && openStreams < peerMaxConcurrentStreams
            && nextLocalStream <= 0x7fff_ffff
    }

    /// Moves frames that wait to be sent to `target`.
    ///
    /// - Returns: how many bytes were written; less than `target` holds when nothing is left.
    public mutating func takeOutput(into target: UnsafeMutableRawBufferPointer) -> Int {
        let byteCount = unsafe pending.take(into: target)
        if pending.count == 0 { replyBytes = 0 }
        return byteCount
    }

    /// How often the peer did this, forgiven or not: for metrics.
    public func glitchCount(_ glitch: Glitch) -> UInt64 { budgets[Int(glitch.rawValue)].total }

    /// Bytes received and not yet consumed, on all streams.
    public var heldBytes: Int { receiveWindow.held }

    /// Bytes of content that the peer still takes, on all streams together.
    public var sendRoom: Int { sendWindow.available }
}
