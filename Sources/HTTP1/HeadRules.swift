/// What start lines, fields and whole heads must be (RFC 9112 §2 to §6), strictly: what two readers could understand in
/// two ways is refused, for that is how requests are smuggled past whoever reads them the other way.
enum HeadRules {
    static func requestLine(_ line: ArraySlice<UInt8>) throws(HTTP1Error) -> HTTP1RequestHead {
        let parts = line.split(separator: 0x20, maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(isTokenByte) else { throw .startLine }
        let isCurrent = try version(parts[2])
        var head = HTTP1RequestHead(
            method: String(decoding: parts[0], as: UTF8.self), target: Array(parts[1]))
        head.isCurrent = isCurrent
        _ = try RequestTarget(parts[1], method: head.method)
        return head
    }

    static func statusLine(_ line: ArraySlice<UInt8>) throws(HTTP1Error) -> HTTP1ResponseHead {
        let parts = line.split(separator: 0x20, maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, parts.count == 2 || parts[2].allSatisfy(isValueByte) else { throw .startLine }
        let isCurrent = try version(parts[0])
        guard parts[1].count == 3, let status = decimal(parts[1]), status >= 100 else { throw .startLine }
        var head = HTTP1ResponseHead(status: Int(status))
        head.isCurrent = isCurrent
        return head
    }

    private static func version(_ text: ArraySlice<UInt8>) throws(HTTP1Error) -> Bool {
        if equal(text, "HTTP/1.1") { return true }
        if equal(text, "HTTP/1.0") { return false }
        guard text.count == 8, text.starts(with: "HTTP/".utf8) else { throw .startLine }
        throw .version
    }

    /// Reads one field line.
    static func field(_ line: ArraySlice<UInt8>, into block: inout FieldBlock) throws(HTTP1Error) {
        // White space before the colon, and folded lines, fail here: neither is in a token.
        guard let colon = line.firstIndex(of: 0x3a), colon > line.startIndex,
            line[..<colon].allSatisfy(isTokenByte)
        else { throw .field }
        let raw = line[(colon + 1)...]
        guard raw.allSatisfy(isValueByte) else { throw .field }
        block.append(line[..<colon], trimmed(raw))
        let last = block.count - 1
        if block.name(at: last, is: "content-length") || block.name(at: last, is: "transfer-encoding") {
            // Legal around a value, but not every reader takes a tab away.
            guard !raw.contains(0x09) else { throw .field }
        } else if block.name(at: last).contains(0x5f) {
            // Who maps fields to variables takes `_` for `-`.
            let name = block.name(at: last).map { $0 == 0x5f ? 0x2d : $0 }[...]
            guard !equal(name, "content-length"), !equal(name, "transfer-encoding") else { throw .field }
        }
    }

    /// Checks a request's fields against each other and derives from them what the head says.
    static func complete(_ head: inout HTTP1RequestHead, upgrades: [String]) throws(HTTP1Error) {
        try checkHost(head)
        let connection = try Connection(head.fields)
        head.keepsAlive = connection.keepsAlive(isCurrent: head.isCurrent)
        head.framing = try framing(head.fields, isCurrent: head.isCurrent)
        head.expectsContinue =
            head.isCurrent && head.framing != .none
            && head.fields["expect"].map { equalIgnoringCase($0, "100-continue".utf8) } ?? false
        if head.method == "CONNECT" {
            // Content of a CONNECT has no meaning (RFC 9110 §9.3.6), and what follows its head is the tunnel's.
            guard head.framing == .none else { throw .length }
        } else if head.method == "GET", head.isCurrent, connection.upgrade {
            var wanted: String?
            try head.fields.forEachMember(of: "upgrade") { member throws(HTTP1Error) in
                wanted = wanted ?? upgrades.first { equalIgnoringCase(member, $0.utf8) }
            }
            head.upgrade = wanted
            // Content before the change would be told from what comes behind it in different ways.
            guard wanted == nil || head.framing == .none else { throw .upgrade }
        }
    }

    /// Checks a response to a request of `method`.
    ///
    /// - Parameter offered: the protocol that the request asked for.
    static func complete(
        _ head: inout HTTP1ResponseHead, method: String, offered: String?
    ) throws(HTTP1Error) {
        let connection = try Connection(head.fields)
        head.keepsAlive = connection.keepsAlive(isCurrent: head.isCurrent)
        if method == "CONNECT", (200..<300).contains(head.status) {
            head.framing = .none
            return
        }
        let framing = try framing(head.fields, isCurrent: head.isCurrent)
        switch head.status {
        case 101:
            // Only what was asked for, and said in full.
            guard head.isCurrent, framing == .none, connection.upgrade, let offered,
                head.fields.count(of: "upgrade") == 1, let name = head.fields["upgrade"],
                equalIgnoringCase(name, offered.utf8)
            else { throw .upgrade }
            head.upgrade = offered
        case ..<200, 204:
            // Announcing content that must not come, they make the next response's place unsure.
            guard framing == .none || framing == .length(0) else { throw .length }
            head.framing = .none
        case 304: head.framing = .none
        case _ where method == "HEAD": head.framing = .none
        default: head.framing = framing == .none ? .untilEnd : framing
        }
    }

    private static func checkHost(_ head: HTTP1RequestHead) throws(HTTP1Error) {
        let target = try RequestTarget(head.target[...], method: head.method)
        let count = head.fields.count(of: "host")
        guard count == 1 || count == 0 && !head.isCurrent else { throw .host }
        guard let host = head.fields["host"] else { return }
        guard Authority.isValid(host) else { throw .host }
        guard let authority = target.authority else { return }
        // Whoever comes next may go by one or by the other. `Host` beside CONNECT may leave the port out.
        let defaultPort: Int64? =
            switch target.scheme {
            case "http": 80
            case "https": 443
            default: Authority.port(of: authority)
            }
        guard Authority.same(authority, host, defaultPort: defaultPort) else { throw .host }
    }

    static func framing(_ fields: FieldBlock, isCurrent: Bool) throws(HTTP1Error) -> ContentFraming {
        let lengths = fields.count(of: "content-length")
        if let coding = fields["transfer-encoding"] {
            guard lengths == 0 else { throw .length }
            guard fields.count(of: "transfer-encoding") == 1, isCurrent,
                equalIgnoringCase(coding, "chunked".utf8)
            else { throw .transferCoding }
            return .chunked
        }
        guard let length = fields["content-length"] else { return .none }
        guard lengths == 1, let count = decimal(length) else { throw .length }
        return .length(count)
    }

    /// How many options `Connection` may list, over all its lines; honest senders list two or three.
    static let connectionOptionLimit = 32

    /// Trailers that say where a message ends or whom it is for are an attack (RFC 9110 §6.5.1).
    static func mayNotTrail(_ name: ArraySlice<UInt8>) -> Bool {
        switch name.count {
        case 2: equal(name, "te")
        case 4: equal(name, "host")
        case 7: equal(name, "trailer") || equal(name, "upgrade")
        case 10: equal(name, "connection") || equal(name, "keep-alive")
        case 14: equal(name, "content-length")
        case 16: equal(name, "proxy-connection")
        case 17: equal(name, "transfer-encoding")
        default: false
        }
    }

    /// Trailers that would change what was already done with the message are dropped.
    static func isDroppedTrailer(_ name: ArraySlice<UInt8>) -> Bool {
        let dropped: [StaticString] = [
            "authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "cookie",
            "set-cookie", "content-encoding", "content-type", "content-range", "cache-control", "expect",
            "max-forwards", "pragma", "range", "age", "date", "expires", "location", "retry-after", "vary",
            "warning", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
            "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
            "x-forwarded-client-cert",
        ]
        return dropped.contains { equal(name, $0) }
    }
}

/// What `Connection` says.
private struct Connection {
    var close = false
    var keepAlive = false
    var upgrade = false

    init(_ fields: FieldBlock) throws(HTTP1Error) {
        var result = (close: false, keepAlive: false, upgrade: false)
        var count = 0
        try fields.forEachMember(of: "connection") { option throws(HTTP1Error) in
            count += 1
            guard count <= HeadRules.connectionOptionLimit else { throw .tooManyConnectionOptions }
            guard option.allSatisfy(isTokenByte) else { throw .connection }
            if equalIgnoringCase(option, "close".utf8) {
                result.close = true
            } else if equalIgnoringCase(option, "keep-alive".utf8) {
                result.keepAlive = true
            } else if equalIgnoringCase(option, "upgrade".utf8) {
                result.upgrade = true
            } else if Connection.mustStay(option) {
                throw .connection
            }
        }
        (close, keepAlive, upgrade) = result
    }

    func keepsAlive(isCurrent: Bool) -> Bool { !close && (isCurrent || keepAlive) }

    /// Fields that a sender could have taken from the next reader by listing them, to be somebody else to it.
    private static func mustStay(_ name: ArraySlice<UInt8>) -> Bool {
        let stay: [StaticString] = [
            "host", "content-length", "transfer-encoding", "authorization", "cookie", "set-cookie",
            "content-type", "content-encoding", "cache-control", "forwarded", "traceparent", "baggage",
        ]
        let lower = name.map(lowercased)[...]
        return stay.contains { equal(lower, $0) } || lower.starts(with: "x-".utf8)
    }
}

extension FieldBlock {
    /// Takes out what was meant for one connection: the fields that `Connection` lists, itself, and those that an
    /// intermediary must not pass on anyway (RFC 9110 §7.6.1). `te: trailers` stays, as in HTTP/2 (RFC 9113 §8.2.2).
    public mutating func removeHopByHop() {
        let hasTrailers = hasMember("trailers", of: "te")
        // Looked up, not searched: a head's fields times its options may be millions.
        var listed: Set<[UInt8]> = []
        try? forEachMember(of: "connection") { member throws(HTTP1Error) in
            listed.insert(withoutParameters(member).map(lowercased))
        }
        let old = self
        removeAll { index in
            let name = old.name(at: index)
            return switch name.count {
            case 2 where equal(name, "te"): true
            case 7 where equal(name, "upgrade"): true
            case 10 where equal(name, "connection") || equal(name, "keep-alive"): true
            case 14 where equal(name, "http2-settings"): true
            case 16 where equal(name, "proxy-connection"): true
            case 17 where equal(name, "transfer-encoding"): true
            default: !listed.isEmpty && listed.contains(Array(name))
            }
        }
        if hasTrailers { append("te", "trailers") }
    }

    func hasMember(_ text: StaticString, of name: StaticString) -> Bool {
        unsafe hasMember(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount), of: name)
    }

    private func hasMember(_ text: some Collection<UInt8>, of name: StaticString) -> Bool {
        var found = false
        try? forEachMember(of: name) { member throws(HTTP1Error) in
            found = found || equalIgnoringCase(withoutParameters(member), text)
        }
        return found
    }
}

/// What follows a `;` is a weight or a parameter.
private func withoutParameters(_ member: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    trimmed(member.prefix { $0 != 0x3b })
}
