/// What we announce to the peer, and the limits within which it must stay.
public struct HTTP2Configuration: Sendable {
    /// Bytes of DATA that one stream may have unread; 65,535 ... 2^31 - 1 (SETTINGS_INITIAL_WINDOW_SIZE).
    ///
    /// 4 MiB: a smaller window throttles one tunnel over a long path, and 256 KiB costs 1.2-1.35 times the CPU even
    /// over a short one.
    public var initialWindow = 4 << 20

    /// Bytes of DATA that all streams together may have unread; 65,535 ... 2^31 - 1.
    ///
    /// Larger than a stream's: were they equal, one stream that nobody reads would stall every other.
    public var connectionWindow = 16 << 20

    /// The longest frame that we take; 16,384 ... 16,777,215 (SETTINGS_MAX_FRAME_SIZE). DATA is passed on as it comes,
    /// so that a long frame costs no memory.
    public var maxFrame = 1 << 20

    /// Streams that the peer may have open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    public var maxConcurrentStreams = 200

    /// Bytes of one header list, counted with 32 for each field (SETTINGS_MAX_HEADER_LIST_SIZE, RFC 9113 §6.5.2).
    /// Compressed blocks have the same limit.
    public var maxHeaderList = 64 << 10

    /// CONTINUATION frames of one header block. With frames of the smallest maximum, `maxHeaderList` needs four.
    public var maxContinuations = 16

    /// Accept the `:protocol` pseudo-header of extended CONNECT (RFC 8441). Servers only.
    public var enableConnectProtocol = false

    /// Streams that a client opens at once before it has seen the server's SETTINGS (§5.1.2 recommends that servers
    /// allow 100).
    public var assumedPeerStreams = 100

    /// Bytes of replies (acknowledgements, RST_STREAM) that may wait for a peer that does not read.
    public var maxUnreadReplies = 64 << 10

    /// How often the peer may do what only an attacker does often.
    public var glitches = GlitchRates()

    public init() {}

    /// For tunnels between nodes: large windows, and patience with applications that abort their connections.
    public static let mesh = HTTP2Configuration()

    /// For the control component's xDS and CA: few streams, anyone may connect before proving who it is.
    public static let control: HTTP2Configuration = {
        var configuration = HTTP2Configuration()
        configuration.initialWindow = 1 << 20
        configuration.connectionWindow = 4 << 20
        configuration.maxConcurrentStreams = 100
        configuration.glitches.earlyReset = GlitchRate(burst: 200, perSecond: 20)
        return configuration
    }()
}
