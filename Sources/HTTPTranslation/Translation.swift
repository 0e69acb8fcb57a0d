import HTTP1
import HTTP2

/// Why a block has no equal in HTTP/1.
public enum TranslationError: Error, Hashable, Sendable {
    /// The block lacks a pseudo-header, or one of them is no number, no method or no target there.
    case pseudo
    /// Neither `:authority` nor `host` says whom the request is for.
    case authority
    /// A change to a protocol that the caller does not allow.
    case upgrade
}

extension HeaderBlock {
    /// A request that came as HTTP/1, in the shape that everybody above works on (RFC 9113 §8.3.1).
    ///
    /// `Host` and an absolute target's authority, which are the same, become `:authority`; a change of protocol becomes
    /// an extended CONNECT (RFC 8441 §4); what was for the connection alone goes.
    ///
    /// - Parameter scheme: that of the connection. What an absolute target says of it is the client's word only.
    public init(_ head: HTTP1RequestHead, scheme: String) throws(HTTP1Error) {
        let target = try RequestTarget(head.target[...], method: head.method)
        self.init()
        append(":method", head.upgrade == nil ? head.method : "CONNECT")
        if let upgrade = head.upgrade { append(":protocol", upgrade) }
        if head.method != "CONNECT" {
            append(":scheme", scheme)
            append(":path", bytes: target.path)
        }
        if let authority = target.authority ?? head.fields["host"] { append(":authority", bytes: authority) }
        var fields = head.fields
        fields.removeHopByHop()
        append(fields, except: "host")
    }

    /// A response that came as HTTP/1. A change of protocol is the 200 that an extended CONNECT gets (RFC 8441 §5).
    public init(_ head: HTTP1ResponseHead) {
        self.init(status: head.status == 101 ? 200 : head.status)
        var fields = head.fields
        fields.removeHopByHop()
        append(fields, except: "")
    }

    /// Trailers that came as HTTP/1.
    public init(trailers: FieldBlock) {
        self.init()
        var fields = trailers
        fields.removeHopByHop()
        append(fields, except: "te")
    }

    private mutating func append(_ fields: FieldBlock, except name: StaticString) {
        for index in 0..<fields.count where !fields.name(at: index, is: name) {
            append(nameBytes: fields.name(at: index), bytes: fields.value(at: index))
        }
    }
}

extension HTTP1RequestHead {
    /// A request to be sent as HTTP/1: in origin form, or in authority form for CONNECT. An extended CONNECT becomes the
    /// GET that asks for its protocol. Cookies, which HTTP/2 may send one by one, are joined (RFC 9113 §8.2.3).
    ///
    /// That names, values and target can stand in a head is checked where they are sent.
    ///
    /// - Parameter upgrades: the protocols that may be asked for, in any case of letters. Behind a change to another one,
    ///   such as `h2c`, the peer would take requests that nobody here has looked at.
    public init(_ block: HeaderBlock, upgrades: [String] = ["websocket"]) throws(TranslationError) {
        guard let method = block.method else { throw .pseudo }
        guard let authority = block.bytes(of: ":authority") ?? block.bytes(of: "host"), !authority.isEmpty
        else { throw .authority }
        let upgrade = block[":protocol"]
        guard upgrade == nil || method == "CONNECT" else { throw .pseudo }
        if let upgrade, !upgrades.contains(where: { $0.lowercased() == upgrade.lowercased() }) {
            throw .upgrade
        }
        if method == "CONNECT", upgrade == nil {
            self.init(method: method, target: Array(authority))
        } else {
            guard let path = block.bytes(of: ":path"), !path.isEmpty else { throw .pseudo }
            self.init(method: upgrade == nil ? method : "GET", target: Array(path))
        }
        self.upgrade = upgrade
        fields.append("host".utf8, authority)
        fields.append(block, joiningCookies: true)
    }
}

extension HTTP1ResponseHead {
    /// A response to be sent as HTTP/1.
    ///
    /// - Parameter upgrade: the protocol that the HTTP/1 request asked for, if it did: a 2xx says that it is spoken from
    ///   here on.
    public init(_ block: HeaderBlock, upgrade: String? = nil) throws(TranslationError) {
        guard let status = block.status, (100...999).contains(status), status != 101 else { throw .pseudo }
        let changes = upgrade != nil && (200..<300).contains(status)
        self.init(status: changes ? 101 : status)
        if changes { self.upgrade = upgrade }
        fields.append(block, joiningCookies: false)
    }
}

extension FieldBlock {
    /// Trailers to be sent as HTTP/1.
    public init(trailers block: HeaderBlock) {
        self.init()
        append(block, joiningCookies: false)
    }

    /// The fields of a block but for pseudo-headers and `host`.
    fileprivate mutating func append(_ block: HeaderBlock, joiningCookies: Bool) {
        let cookieCount = joiningCookies ? block.indices.count { block.isCookie($0) } : 0
        var sawCookie = false
        for index in block.indices {
            let name = block.nameBytes(at: index)
            if name.first == 0x3a || name.elementsEqual("host".utf8) { continue }
            guard cookieCount > 1, block.isCookie(index) else {
                append(name, block.valueBytes(at: index))
                continue
            }
            if !sawCookie { append("cookie".utf8, block.joinedCookies()) }
            sawCookie = true
        }
    }
}

extension HeaderBlock {
    fileprivate func isCookie(_ index: Int) -> Bool { nameBytes(at: index).elementsEqual("cookie".utf8) }

    fileprivate func joinedCookies() -> [UInt8] {
        var joined: [UInt8] = []
        for index in indices where isCookie(index) {
            if !joined.isEmpty { joined += "; ".utf8 }
            joined += valueBytes(at: index)
        }
        return joined
    }
}
