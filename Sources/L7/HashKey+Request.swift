import HTTP2
import Routing

extension LoadBalancing.HashKey {
    /// Of what a request has for this key; nil where it has nothing.
    func hash(_ head: HeaderBlock, from client: ClientContext) -> UInt64? {
        switch self {
        case .header(let name):
            let values = head.values(of: name)
            return values.isEmpty ? nil : XXHash64.hash(values.joined(separator: ","))
        case .query(let name): return Self.parameter(name, of: head.path ?? "").map { XXHash64.hash($0) }
        case .sourceIP: return client.address.map { XXHash64.hash($0.address.canonical.description) }
        case .cookie(let name, _, _): return Self.cookie(name, of: head).map { XXHash64.hash($0) }
        }
    }

    /// The first parameter of that name, as it stands.
    private static func parameter(_ name: String, of path: String) -> String? {
        guard let mark = path.firstIndex(of: "?") else { return nil }
        let query = path[path.index(after: mark)...].prefix { $0 != "#" }
        for part in query.split(separator: "&") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair[0] == name { return pair.count > 1 ? String(pair[1]) : "" }
        }
        return nil
    }

    /// A cookie's value without quotes (RFC 6265 §4.2.1; several fields in HTTP/2, RFC 9113 §8.2.3).
    private static func cookie(_ name: String, of head: HeaderBlock) -> String? {
        for field in head.values(of: "cookie") {
            for part in field.split(separator: ";") {
                let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard pair.count == 2, pair[0].trimmed == name[...] else { continue }
                var value = pair[1].trimmed
                if value.count >= 2, value.first == "\"", value.last == "\"" {
                    value = value.dropFirst().dropLast()
                }
                return String(value)
            }
        }
        return nil
    }

    /// For a request without the cookie that its answer is to set: the new value, and the field that sets it. Nil for every other key.
    func newCookie(random: () -> UInt64) -> (value: String, field: String)? {
        guard case .cookie(let name, let path, let lifetime?) = self else { return nil }
        let digits = String(random(), radix: 16)
        let value = String(repeating: "0", count: 16 - digits.count) + digits
        var field = "\(name)=\"\(value)\""
        let seconds = lifetime.components.seconds
        // Without an age it lasts as long as the client's session.
        if seconds > 0 { field += "; Max-Age=\(seconds)" }
        if let path, !path.isEmpty { field += "; Path=\(path)" }
        return (value, field + "; HttpOnly")
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        var rest = drop { $0 == " " || $0 == "\t" }
        while rest.last == " " || rest.last == "\t" { rest = rest.dropLast() }
        return rest
    }
}
