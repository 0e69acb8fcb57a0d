/// The four forms of a request target (RFC 9112 §3.2), taken apart.
public struct RequestTarget: Hashable, Sendable {
    public enum Form: Hashable, Sendable { case origin, absolute, authority, asterisk }

    public var form: Form
    /// In lower case; of an absolute form.
    public var scheme: String?
    /// Host and port as they came; of an absolute form and of CONNECT.
    public var authority: ArraySlice<UInt8>?
    /// The path with its query. `*` for the asterisk and for OPTIONS on a URI without a path; empty for CONNECT.
    public var path: ArraySlice<UInt8>

    /// - Throws: `target` where it has none of the forms that `method` takes.
    public init(_ target: ArraySlice<UInt8>, method: String) throws(HTTP1Error) {
        // A fragment is no part of a target; white space and what is not ASCII would be read in more than one way.
        guard let first = target.first, target.allSatisfy({ (0x21...0x7e).contains($0) && $0 != 0x23 })
        else { throw .target }
        if method == "CONNECT" {
            guard Authority.isValid(target), Authority.port(of: target) != nil else { throw .target }
            self.init(form: .authority, authority: target, path: [])
        } else if first == 0x2f {
            self.init(form: .origin, path: target)
        } else if target.count == 1, first == 0x2a {
            guard method == "OPTIONS" else { throw .target }
            self.init(form: .asterisk, path: target)
        } else {
            // Schemes know no case (RFC 3986 §3.1).
            let scheme =
                if equalIgnoringCase(target.prefix(7), "http://".utf8) {
                    "http"
                } else if equalIgnoringCase(
                    target.prefix(8), "https://".utf8)
                { "https" } else { throw HTTP1Error.target }
            let rest = target.dropFirst(scheme.utf8.count + 3)
            let end = rest.firstIndex { $0 == 0x2f || $0 == 0x3f } ?? rest.endIndex
            let authority = rest[..<end]
            guard Authority.isValid(authority) else { throw .target }
            var path = rest[end...]
            if path.isEmpty {
                path = method == "OPTIONS" ? [0x2a] : [0x2f]
            } else if path.first == 0x3f {
                path = ([0x2f] + path)[...]
            }
            self.init(form: .absolute, scheme: scheme, authority: authority, path: path)
        }
    }

    private init(
        form: Form, scheme: String? = nil, authority: ArraySlice<UInt8>? = nil, path: ArraySlice<UInt8>
    ) {
        self.form = form
        self.scheme = scheme
        self.authority = authority
        self.path = path
    }
}

/// Host and port of a URI, without userinfo (RFC 3986 §3.2, RFC 9110 §4.2.4).
enum Authority {
    /// Letters, digits, `-._~` and a port, or an IPv6 address in brackets: names beyond that reach no host, and have been
    /// ways past those who compare them.
    static func isValid(_ text: ArraySlice<UInt8>) -> Bool {
        guard let host = host(of: text), !host.isEmpty else { return false }
        let rest = text[host.endIndex...]
        guard let colon = rest.first else { return true }
        return colon == 0x3a && port(of: text) != nil
    }

    /// The digits behind the host, nil without a port in 1 to 65,535.
    static func port(of text: ArraySlice<UInt8>) -> Int64? {
        guard let host = host(of: text), text.endIndex - host.endIndex >= 2,
            let port = decimal(text[(host.endIndex + 1)...]), (1...65_535).contains(port)
        else { return nil }
        return port
    }

    /// Whether both name the same host and port; a port that is left out is the scheme's. Case is of no matter.
    static func same(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>, defaultPort: Int64?) -> Bool {
        guard let aHost = host(of: a), let bHost = host(of: b) else { return false }
        return aHost.count == bHost.count && zip(aHost, bHost).allSatisfy { lowercased($0) == lowercased($1) }
            && (port(of: a) ?? defaultPort) == (port(of: b) ?? defaultPort)
    }

    private static func host(of text: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard text.first == 0x5b else {
            let end = text.firstIndex(of: 0x3a) ?? text.endIndex
            return text[..<end].allSatisfy(isHostByte) ? text[..<end] : nil
        }
        guard let end = text.firstIndex(of: 0x5d), end > text.startIndex + 2 else { return nil }
        let address = text[(text.startIndex + 1)..<end]
        return address.allSatisfy { isHexDigit($0) || $0 == 0x3a || $0 == 0x2e } ? text[...end] : nil
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x61...0x7a, 0x41...0x5a, 0x30...0x39, 0x2d, 0x2e, 0x5f, 0x7e: true
        default: false
        }
    }
}
