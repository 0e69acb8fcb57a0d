/// Why a peer's HTTP/1 bytes cannot be read any further. The connection ends; where one is owed, the answer is `status`.
///
/// Whoever drives a machine counts them by case: each limit of `HTTP1Limits` has one of its own.
public enum HTTP1Error: Error, Hashable, Sendable, CaseIterable, CustomStringConvertible {
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
    /// `Host` is missing, repeated, illegal, or not that of the target (RFC 9112 §3.2).
    case host
    /// `Content-Length` is no number, given twice, beside `Transfer-Encoding`, or where none may be (RFC 9112 §6.3).
    case length
    /// A transfer coding other than `chunked` alone.
    case transferCoding
    /// A chunk's size line, or what follows its bytes, is wrong (RFC 9112 §7.1).
    case chunk
    /// `Connection` is no list of names, or lists a field that whoever comes next must not lose (RFC 9110 §7.6.1).
    case connection
    /// `Connection` lists more than `HeadRules.connectionOptionLimit` options.
    case tooManyConnectionOptions
    /// Bytes behind a request to change the protocol that is not answered yet, content in such a request, or an answer
    /// to what nobody asked for.
    case upgrade
    /// A response that belongs to no request.
    case unsolicited
    case startLineTooLong
    case fieldTooLong
    case headTooLarge
    case tooManyFields
    case chunkExtensionsTooLong
    case trailersTooLarge
    case tooManyInterim
    case bodyTooLarge
    /// A request was answered before it was whole, and what is left of it is too much to read for nothing.
    case restTooLarge
    /// The peer closed in the middle of a message.
    case incomplete

    /// The status that answers it.
    public var status: Int {
        switch self {
        case .version: 505
        case .startLineTooLong: 414
        case .fieldTooLong, .headTooLarge, .tooManyFields, .trailersTooLarge: 431
        case .bodyTooLarge, .restTooLarge: 413
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
        case .connection: "malformed Connection"
        case .tooManyConnectionOptions: "too many options in Connection"
        case .upgrade: "malformed change of protocol"
        case .unsolicited: "response without a request"
        case .startLineTooLong: "start line too long"
        case .fieldTooLong: "field too long"
        case .headTooLarge: "head too large"
        case .tooManyFields: "too many fields"
        case .chunkExtensionsTooLong: "chunk extensions too long"
        case .trailersTooLarge: "trailers too large"
        case .tooManyInterim: "too many interim responses"
        case .bodyTooLarge: "body too large"
        case .restTooLarge: "rest of an answered request too large"
        case .incomplete: "connection closed within a message"
        }
    }
}

/// Why a message cannot be sent: it would be malformed, or could be read as two. Nothing of it was written.
public enum HTTP1SendError: Error, Hashable, Sendable {
    case method, target, authority, status
    /// A name that is no token, or a value that could start a line of its own (response splitting).
    case field
    /// `Content-Length` is no number or given twice.
    case length
    /// More content than was announced, or less at its end.
    case content
    /// A change of protocol that the other side did not offer.
    case upgrade
    /// Not now: no exchange is under way, its head was sent already, or the connection is over.
    case order
}

/// What one message may be at most. Sizes are bytes.
public struct HTTP1Limits: Hashable, Sendable {
    public var startLine = 8 << 10
    /// One field line, of a head or of trailers.
    public var field = 16 << 10
    /// The start line and all fields.
    public var head = 16 << 10
    public var fieldCount = 100
    /// All trailers; their number is `fieldCount`.
    public var trailers = 8 << 10
    /// A chunk's size with its extensions.
    public var chunkLine = 256
    /// The extensions of all chunks of a body: they are bytes that count for nothing.
    public var chunkExtensions = 4 << 10
    /// Empty lines before a request, which some clients send behind a body (RFC 9112 §2.2).
    public var emptyLines = 1
    /// Interim responses to one request.
    public var interimResponses = 16
    /// Content that is read and dropped of a request that was answered before it was whole.
    public var rest: Int64 = 256 << 10
    /// Content. What keeps messages whole in memory has this limit; a proxy streams and sets none.
    public var body: Int64 = 1 << 20

    public init() {}

    /// For a proxy that streams: content without end, heads as large as common servers take.
    public static var streaming: HTTP1Limits {
        var limits = HTTP1Limits()
        limits.head = 60 << 10
        limits.body = .max
        return limits
    }
}
