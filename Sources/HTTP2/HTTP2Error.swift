/// Why an HTTP/2 connection is over, or why a stream could not be opened on it.
public enum HTTP2Error: Error, Hashable, Sendable, CustomStringConvertible {
    /// The peer broke the protocol.
    case violation(Violation)
    /// The peer did something allowed so often that it can only be harm: ENHANCE_YOUR_CALM.
    case excess(Glitch)
    /// One header block is larger, or in more pieces, than anyone honest sends: ENHANCE_YOUR_CALM.
    case headerBlockTooLarge
    /// The peer makes us answer and does not read the answers: ENHANCE_YOUR_CALM.
    case repliesUnread(byteCount: Int)
    /// A frame of a wrong length for its type, or longer than we announced (§4.2).
    case frameSize(type: UInt8, length: Int)
    /// The peer broke the connection's flow control (§6.9).
    case flowControl(FlowControlError)
    /// The header compression state is lost (§4.3).
    case compression
    /// `openStream`: as many streams as the peer allows are open.
    case streamLimit
    /// `openStream`: the connection is going away, ours or the peer's will.
    case goingAway
    /// `openStream`: 2^30 streams were opened; a new connection is needed (§5.1.1).
    case streamsExhausted

    /// What the peer did, in the words that go into GOAWAY's debug data and the log.
    public enum Violation: String, Hashable, Sendable {
        case preface = "not an HTTP/2 connection preface"
        case settingsExpected = "the first frame is not SETTINGS"
        case continuationExpected = "a header block is interrupted"
        case unexpectedContinuation = "CONTINUATION without HEADERS"
        case streamZero = "a stream's frame on stream 0"
        case notStreamZero = "a connection's frame on a stream"
        case idleStream = "a frame on an idle stream"
        case streamIdentifier = "HEADERS on a stream identifier that the peer may not open"
        case closedStream = "HEADERS on a closed stream"
        case push = "PUSH_PROMISE, which was refused"
        case padding = "padding longer than its frame"
        case settingValue = "a setting out of its range"
        case goAwayIncreased = "GOAWAY with a higher last stream than before"
    }

    /// The code that GOAWAY carries.
    public var code: ErrorCode {
        switch self {
        case .violation(.closedStream): .streamClosed
        case .violation: .protocolError
        case .excess, .headerBlockTooLarge, .repliesUnread: .enhanceYourCalm
        case .frameSize: .frameSizeError
        case .flowControl(let error): error.code
        case .compression: .compressionError
        case .streamLimit: .refusedStream
        case .goingAway, .streamsExhausted: .noError
        }
    }

    public var description: String {
        switch self {
        case .violation(let violation): violation.rawValue
        case .excess(let glitch): "too many glitches: \(glitch)"
        case .headerBlockTooLarge: "header block too large"
        case .repliesUnread(let byteCount): "\(byteCount) bytes of replies unread"
        case .frameSize(let type, let length): "frame of type \(type) with length \(length)"
        case .flowControl(let error): "flow control: \(error)"
        case .compression: "header compression"
        case .streamLimit: "the peer's limit of streams is reached"
        case .goingAway: "the connection is going away"
        case .streamsExhausted: "no stream identifiers left"
        }
    }
}

/// How a peer broke flow control (RFC 9113 §6.9).
public enum FlowControlError: Error, Hashable, Sendable {
    /// More DATA than the window allowed.
    case windowExceeded(by: Int)
    /// A WINDOW_UPDATE of 0.
    case emptyUpdate
    /// An update, or a changed initial window, that takes a window over 2^31 - 1.
    case windowOverflow

    /// FLOW_CONTROL_ERROR, but an empty update is a PROTOCOL_ERROR (§6.9).
    public var code: ErrorCode {
        self == .emptyUpdate ? .protocolError : .flowControlError
    }
}
