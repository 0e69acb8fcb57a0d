import HTTP2
import TLS

/// Why a channel has ended. Exactly one for each.
public enum ChannelClose: Error, Equatable, Sendable {
    /// We ended it.
    case local
    /// We drained it and its last stream has ended.
    case drained
    /// The peer took no more streams (GOAWAY) and the last one has ended.
    case peerLeft(ErrorCode)
    /// The peer closed the connection.
    case peerEnded
    /// The connection could not be made (errno).
    case connectFailed(Int32)
    /// The connection was not made in time.
    case connectTimeout
    /// The TLS handshake was not done in time.
    case handshakeTimeout
    /// The peer did not answer our PING.
    case keepAliveTimeout
    /// The connection broke (errno); ECONNRESET is the peer's reset.
    case socket(Int32)
    case tls(TLSError)
    case http2(HTTP2Error)

    /// Whether nothing went wrong.
    public var isOrderly: Bool {
        switch self {
        case .local, .drained, .peerEnded: true
        case .peerLeft(let code): code == .noError
        default: false
        }
    }
}

/// Why a stream has ended. Exactly one for each.
public enum StreamClose: Equatable, Sendable {
    /// Both sides ended it in order, and everything that was received was consumed.
    case finished
    /// The peer reset it or refused it, or made a mistake on it. `refusedStream`: it was not processed.
    case reset(ErrorCode)
    /// We reset it.
    case cancelled(ErrorCode)
    /// Its channel ended under it.
    case channel(ChannelClose)
}
