/// What the fields of a block say about its message. Made only of blocks that are well formed.
struct MessageFacts: Equatable {
    var isConnect = false
    var isHead = false
    /// 0 in requests and trailers.
    var status = 0
    var contentLength: Int?
}

/// Why a message is malformed, which ends its stream with PROTOCOL_ERROR (RFC 9113 §8.1.1).
enum Malformed: Error, Equatable {
    case emptyName, illegalName, illegalValue
    case connectionSpecific
    case pseudoAfterField, unknownPseudo, repeatedPseudo, missingPseudo, forbiddenPseudo
    case pseudoInTrailers
    case method, scheme, path, authority, status
    case hostDiffers
    case contentLength
}

/// The rules of RFC 9113 §8.2 and §8.3, all of them, on one block.
enum HeaderRules {
    private struct Pseudo: OptionSet {
        let rawValue: UInt8
        static let method = Pseudo(rawValue: 1)
        static let scheme = Pseudo(rawValue: 2)
        static let authority = Pseudo(rawValue: 4)
        static let path = Pseudo(rawValue: 8)
        static let connectProtocol = Pseudo(rawValue: 16)
        static let status = Pseudo(rawValue: 32)

        init(rawValue: UInt8) { self.rawValue = rawValue }

        init?(_ name: ArraySlice<UInt8>) {
            switch name.count {
            case 5 where equal(name, ":path"): self = .path
            case 7 where equal(name, ":method"): self = .method
            case 7 where equal(name, ":status"): self = .status
            case 7 where equal(name, ":scheme"): self = .scheme
            case 9 where equal(name, ":protocol"): self = .connectProtocol
            case 10 where equal(name, ":authority"): self = .authority
            default: return nil
            }
        }
    }

    /// - Parameter connectProtocol: whether we announced extended CONNECT (RFC 8441 §4).
    static func request(_ block: HeaderBlock, connectProtocol: Bool) throws(Malformed) -> MessageFacts {
        let (seen, facts, host) = try fields(of: block)
        guard !seen.contains(.status) else { throw .forbiddenPseudo }
        guard seen.contains(.method) else { throw .missingPseudo }
        var result = facts
        let method = try value(":method", in: block)
        guard !method.isEmpty, method.allSatisfy(isTokenByte) else { throw .method }
        result.isHead = equal(method, "HEAD")

        if equal(method, "CONNECT"), !seen.contains(.connectProtocol) {
            guard seen == [.method, .authority] else {
                throw seen.contains(.authority) ? .forbiddenPseudo : .missingPseudo
            }
            result.isConnect = true
        } else {
            if seen.contains(.connectProtocol) {
                guard connectProtocol, equal(method, "CONNECT") else { throw .forbiddenPseudo }
                guard seen.contains(.authority) else { throw .missingPseudo }
                guard try !value(":protocol", in: block).isEmpty else { throw .missingPseudo }
                result.isConnect = true
            }
            guard seen.isSuperset(of: [.method, .scheme, .path]) else { throw .missingPseudo }
            let scheme = try value(":scheme", in: block)
            guard !scheme.isEmpty, scheme.allSatisfy(isSchemeByte) else { throw .scheme }
            let path = try value(":path", in: block)
            // A fragment is no part of a request target, and a space would split an HTTP/1 request line further on.
            guard let first = path.first,
                path.allSatisfy({ (0x21...0x7e).contains($0) && $0 != 0x23 || $0 >= 0x80 })
            else { throw .path }
            guard first == 0x2f || equal(path, "*") && equal(method, "OPTIONS") else { throw .path }
        }

        if seen.contains(.authority) {
            let authority = try value(":authority", in: block)
            // Empty authorities come from clients of Unix sockets; a tunnel needs one. `@` would be userinfo (§8.3.1).
            guard !result.isConnect || !authority.isEmpty, authority.allSatisfy(isAuthorityByte)
            else { throw .authority }
            if let host, !authority.elementsEqual(host) { throw .hostDiffers }
        } else if let host {
            guard host.allSatisfy(isAuthorityByte) else { throw .authority }
        }
        return result
    }

    static func response(_ block: HeaderBlock) throws(Malformed) -> MessageFacts {
        let (seen, facts, _) = try fields(of: block)
        guard seen.contains(.status) else { throw .missingPseudo }
        guard seen == .status else { throw .forbiddenPseudo }
        let digits = try value(":status", in: block)
        guard digits.count == 3, let status = number(digits), (100...999).contains(status), status != 101
        else { throw .status }
        var result = facts
        result.status = status
        return result
    }

    static func trailers(_ block: HeaderBlock) throws(Malformed) {
        guard try fields(of: block).seen.isEmpty else { throw .pseudoInTrailers }
    }

    private static func fields(
        of block: HeaderBlock
    ) throws(Malformed) -> (seen: Pseudo, facts: MessageFacts, host: ArraySlice<UInt8>?) {
        var seen: Pseudo = []
        var facts = MessageFacts()
        var host: ArraySlice<UInt8>?
        var sawField = false
        for field in block.fields {
            let name = block.storage[field.name]
            let value = block.storage[field.value]
            guard let first = name.first else { throw .emptyName }
            try check(value)
            if first == 0x3a {
                guard !sawField else { throw .pseudoAfterField }
                guard let pseudo = Pseudo(name) else { throw .unknownPseudo }
                guard seen.insert(pseudo).inserted else { throw .repeatedPseudo }
                continue
            }
            sawField = true
            guard name.allSatisfy({ isTokenByte($0) && !(0x41...0x5a).contains($0) }) else {
                throw .illegalName
            }
            switch name.count {
            case 2 where equal(name, "te"):
                guard equal(value, "trailers") else { throw .connectionSpecific }
            case 4 where equal(name, "host"):
                if let host, !host.elementsEqual(value) { throw .hostDiffers }
                host = value
            case 7 where equal(name, "upgrade"): throw .connectionSpecific
            case 10 where equal(name, "connection") || equal(name, "keep-alive"): throw .connectionSpecific
            case 14 where equal(name, "content-length"):
                guard let length = number(value), facts.contentLength ?? length == length
                else { throw .contentLength }
                facts.contentLength = length
            case 16 where equal(name, "proxy-connection"): throw .connectionSpecific
            case 17 where equal(name, "transfer-encoding"): throw .connectionSpecific
            default: break
            }
        }
        return (seen, facts, host)
    }

    /// No NUL, CR or LF anywhere, no space at either end (§8.2.1).
    private static func check(_ value: ArraySlice<UInt8>) throws(Malformed) {
        guard let first = value.first, let last = value.last else { return }
        guard first != 0x20, first != 0x09, last != 0x20, last != 0x09 else { throw .illegalValue }
        for byte in value where byte == 0 || byte == 0x0a || byte == 0x0d { throw .illegalValue }
    }

    private static func value(_ name: String, in block: HeaderBlock) throws(Malformed) -> ArraySlice<UInt8> {
        guard let value = block.bytes(of: name) else { throw .missingPseudo }
        return value
    }

    /// Decimal digits and nothing else, at most what fits.
    private static func number(_ digits: ArraySlice<UInt8>) -> Int? {
        guard !digits.isEmpty, digits.count <= 18 else { return nil }
        var number = 0
        for byte in digits {
            guard (0x30...0x39).contains(byte) else { return nil }
            number = number * 10 + Int(byte - 0x30)
        }
        return number
    }

    private static func equal(_ bytes: ArraySlice<UInt8>, _ text: StaticString) -> Bool {
        unsafe bytes.elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// `tchar` of RFC 9110 §5.6.2.
    @inline(__always)
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x61...0x7a, 0x30...0x39, 0x41...0x5a, 0x21, 0x23...0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e...0x60,
            0x7c,
            0x7e:
            true
        default: false
        }
    }

    private static func isSchemeByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x61...0x7a, 0x41...0x5a, 0x30...0x39, 0x2b, 0x2d, 0x2e: true
        default: false
        }
    }

    /// Anything visible that an authority can hold, without userinfo, path, query or fragment.
    private static func isAuthorityByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x23, 0x2f, 0x3f, 0x40, 0x5c: false
        case 0x21...0x7e: true
        default: false
        }
    }
}
