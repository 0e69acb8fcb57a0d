/// A route of a table, with what its action needs compiled.
public final class RouteEntry: Sendable {
    public let route: Route
    /// Of the rewrite or redirect by a regular expression.
    private let pattern: Pattern?
    private let origins: [Origin]

    private enum Origin: Sendable {
        case exact([UInt8])
        case prefix([UInt8])
        case regex(Pattern)
        case any
    }

    init(_ route: Route) throws(PatternError) {
        self.route = route
        var pathRewrite: Rewrite.Path?
        switch route.action {
        case .forward(let forwarding): pathRewrite = forwarding.rewrite?.path
        case .redirect(let redirect): pathRewrite = redirect.path
        case .respond: break
        }
        if case .regex(let text, let replacement)? = pathRewrite {
            let compiled = try Pattern(text)
            try compiled.check(replacement: replacement)
            pattern = compiled
        } else {
            pattern = nil
        }
        var origins: [Origin] = []
        for match in route.cors?.allowOrigins ?? [] {
            switch match {
            case .exact("*"), .present: origins.append(.any)
            case .exact(let text): origins.append(.exact(Array(text.utf8)))
            case .prefix(let text): origins.append(.prefix(Array(text.utf8)))
            case .regex(let text): origins.append(.regex(try Pattern(text)))
            }
        }
        self.origins = origins
    }

    /// Whether the route's CORS policy lets pages of `origin` use the answers.
    public func allowsOrigin(_ origin: [UInt8]) -> Bool {
        origins.contains {
            switch $0 {
            case .any: true
            case .exact(let text): text == origin
            case .prefix(let text): origin.starts(with: text)
            case .regex(let pattern): pattern.matches(origin.span)
            }
        }
    }

    /// The path and query that the destination gets; nil where they stay as they are.
    ///
    /// - Parameter match: which of the route's matches held.
    public func rewrittenPath(_ head: borrowing RequestHead, match: Int) -> [UInt8]? {
        guard case .forward(let forwarding) = route.action, let rewrite = forwarding.rewrite?.path else {
            return nil
        }
        return apply(rewrite, head, match: match)
    }

    /// `Location` of a redirect (RFC 9110 §10.2.2); nil for other actions.
    public func location(_ head: borrowing RequestHead, from origin: borrowing RequestOrigin, match: Int)
        -> [UInt8]?
    {
        guard case .redirect(let redirect) = route.action else { return nil }
        let oldScheme = head.text(head.scheme)
        let scheme = redirect.scheme ?? oldScheme
        let portStart = RoutingTable.portStart(head)
        let host = head.text(head.authority.lowerBound..<portStart)
        let oldPort = head.text(portStart..<head.authority.upperBound)
        let defaultPort = scheme == "https" ? ":443" : ":80"
        var port: String
        switch redirect.port {
        case .number(let number): port = ":\(number)"
        case .request: port = ":\(origin.port)"
        case .protocolDefault: port = ""
        case .unchanged:
            // The port of the request is that of the request's host. Where the scheme changes, a default one goes with it.
            let isDefault = oldPort == (oldScheme == "https" ? ":443" : ":80")
            port = redirect.authority != nil || scheme != oldScheme && isDefault ? "" : oldPort
        }
        if redirect.port != .unchanged, port == defaultPort { port = "" }
        var result = Array("\(scheme)://\(redirect.authority ?? host)\(port)".utf8)
        if let rewrite = redirect.path {
            result += apply(rewrite, head, match: match)
        } else {
            result += head.bytes[head.path]
        }
        return result
    }

    private func apply(_ rewrite: Rewrite.Path, _ head: borrowing RequestHead, match: Int) -> [UInt8] {
        let path = head.pathOnly
        let rest = path.upperBound..<head.path.upperBound
        var result: [UInt8]
        switch rewrite {
        case .matched(let text):
            let length = matchedLength(match, path.count)
            result = Array(text.utf8) + head.bytes[path.dropFirst(length)]
        case .matchedElements(let text):
            let length = matchedLength(match, path.count)
            // The slash between the elements belongs to what follows.
            let kept = text.utf8.last == UInt8(ascii: "/") ? Array(text.utf8.dropLast()) : Array(text.utf8)
            result = kept + head.bytes[path.dropFirst(length)]
            if result.first != UInt8(ascii: "/") { result.insert(UInt8(ascii: "/"), at: 0) }
        case .full(let text):
            result = Array(text.utf8)
        case .regex(_, let replacement):
            guard let pattern else { return Array(head.bytes[head.path]) }
            result = pattern.replace(in: head.bytes.span.extracting(path), with: Array(replacement.utf8))
        }
        // A new path that has a query of its own keeps it; otherwise the request's goes along.
        if !result.contains(UInt8(ascii: "?")) { result += head.bytes[rest] }
        return result
    }

    /// How many bytes of the path the match was about: what a rewrite puts something else in place of.
    private func matchedLength(_ match: Int, _ count: Int) -> Int {
        let path = route.matches.indices.contains(match) ? route.matches[match].path : nil
        switch path {
        case .exact, .regex: return count
        case .prefix(let text): return min(text.utf8.count, count)
        case .elementPrefix(let text):
            let length = text.utf8.count
            return min(text.utf8.last == UInt8(ascii: "/") ? length - 1 : length, count)
        // A rule without a path is one for the prefix "/" (Istio).
        case nil: return min(1, count)
        }
    }
}
