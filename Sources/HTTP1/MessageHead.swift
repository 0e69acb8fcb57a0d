/// How long a message's content is (RFC 9112 §6.3).
public enum ContentFraming: Hashable, Sendable {
    case none
    case length(Int64)
    case chunked
    /// Up to the end of the connection; of responses only.
    case untilEnd
}

/// A request without its content: as it was read, or to be sent.
public struct HTTP1RequestHead: Hashable, Sendable {
    /// As it came: methods have upper and lower case (RFC 9110 §9.1).
    public var method: String
    public var target: [UInt8]
    public var fields = FieldBlock()
    /// HTTP/1.1, not 1.0.
    public var isCurrent = true
    public var framing = ContentFraming.none
    /// The peer means to send another request on the connection (RFC 9112 §9.3).
    public var keepsAlive = true
    /// The peer waits for an interim response before it sends content (RFC 9110 §10.1.1).
    public var expectsContinue = false
    /// The protocol that is asked for, in lower case (RFC 9110 §7.8).
    public var upgrade: String?

    public init(method: String, target: [UInt8], fields: FieldBlock = FieldBlock()) {
        self.method = method
        self.target = target
        self.fields = fields
    }

    /// Whom it is for: the target's authority, or else `Host`. Of a request that was read both are the same.
    public var authority: ArraySlice<UInt8>? {
        (try? RequestTarget(target[...], method: method))?.authority ?? fields["host"]
    }
}

/// A response without its content: as it was read, or to be sent.
public struct HTTP1ResponseHead: Hashable, Sendable {
    public var status: Int
    public var fields = FieldBlock()
    public var isCurrent = true
    public var framing = ContentFraming.none
    public var keepsAlive = true
    /// With 101, the protocol that the connection speaks from here on, in lower case.
    public var upgrade: String?

    public init(status: Int, fields: FieldBlock = FieldBlock()) {
        self.status = status
        self.fields = fields
    }

    /// Another response to the same request follows (RFC 9110 §15.2).
    public var isInterim: Bool { status < 200 && status != 101 }
}
