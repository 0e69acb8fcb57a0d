/// Why a peer's HTTP/1 bytes cannot be read any further. The connection ends; where one is owed, the answer is `status`.
public enum HTTP1Error: Error, Hashable, Sendable, CustomStringConvertible {
    /// The first line is not that of a request or response (RFC 9112 §3, §4).
    case startLine
    /// A version other than HTTP/1.0 and HTTP/1.1.
    case version
    /// A request target of no known form (RFC 9112 §3.2).
    case target
    /// A field line with an illegal name, value, white space before the colon, or folded onto a second line.
    case field
    /// A CR without LF, or an LF without CR: readers that disagree about them can be played against each other.
    case lineEnd
    /// `Host` is missing, repeated or illegal (RFC 9112 §3.2).
    case host
    /// `Content-Length` is no number, or given twice, or beside `Transfer-Encoding` (RFC 9112 §6.3).
    case length
    /// A transfer coding other than `chunked` alone.
    case transferCoding
    /// A chunk's size line, or what follows its bytes, is wrong (RFC 9112 §7.1).
    case chunk
    case headTooLarge
    case tooManyFields
    case bodyTooLarge
    /// The peer closed in the middle of a message.
    case incomplete

    /// The status that answers it.
    public var status: Int {
        switch self {
        case .version: 505
        case .headTooLarge, .tooManyFields: 431
        case .bodyTooLarge: 413
        case .transferCoding: 501
        default: 400
        }
    }

    public var description: String {
        switch self {
        case .startLine: "malformed start line"
        case .version: "unsupported HTTP version"
        case .target: "malformed request target"
        case .field: "malformed field"
        case .lineEnd: "bare CR or LF"
        case .host: "missing or malformed Host"
        case .length: "malformed or conflicting Content-Length"
        case .transferCoding: "unsupported transfer coding"
        case .chunk: "malformed chunk"
        case .headTooLarge: "head too large"
        case .tooManyFields: "too many fields"
        case .bodyTooLarge: "body too large"
        case .incomplete: "connection closed within a message"
        }
    }
}

/// What one message may be at most.
public struct HTTP1Limits: Hashable, Sendable {
    /// Bytes of the start line and all fields.
    public var head = 16 << 10
    public var fieldCount = 100
    /// Bytes of content, which is kept in memory.
    public var body = 1 << 20

    public init() {}
}
