/// Names that requests carry, and the routes of those requests.
public struct VirtualHost: Hashable, Sendable {
    public var name: String
    /// `a.example`, `a.example:8080`, `*.example`, `a.*` or `*`, in any case.
    public var domains: [String]
    public var routes: [Route]

    public init(_ name: String, domains: [String] = ["*"], routes: [Route]) {
        self.name = name
        self.domains = domains
        self.routes = routes
    }
}

/// Why virtual hosts cannot be a table.
public struct RoutingTableError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Problem: Hashable, Sendable {
        /// The host's or the rule's name.
        public var place: String
        public var message: String
    }

    public var problems: [Problem]

    public var description: String {
        problems.map { "\($0.place): \($0.message)" }.joined(separator: "\n")
    }
}

/// What a table says of a request.
public enum RoutingOutcome: Sendable {
    /// No virtual host has the request's authority: answered 404.
    case noHost
    /// The host is there, and none of its routes takes the request: answered 404.
    case noRoute
    case route(RouteEntry, match: Int)
}

/// The routes of a listener or of a service's port, made ready for matching. Immutable; may be used on any thread.
///
/// A match allocates nothing.
public final class RoutingTable: Sendable {
    private struct Host {
        var name: String
        var matches: Range<Int>
        /// Matches whose path begins in a known way, by that beginning.
        var byPath: ByteIndex
        /// The other ones, in order: any path, a regular expression, or without regard to case.
        var others: [Int]
    }

    private let pool: MatchPool
    private let matches: [CompiledMatch]
    private let entries: [RouteEntry]
    private let hosts: [Host]
    private let exactHosts: ByteIndex
    private let prefixHosts: ByteIndex
    /// Spelled backwards.
    private let suffixHosts: ByteIndex
    private let anyHost: Int?
    private let singleHost: Bool

    public init(_ virtualHosts: [VirtualHost]) throws(RoutingTableError) {
        var pool = MatchPool()
        var matches: [CompiledMatch] = []
        var entries: [RouteEntry] = []
        var hosts: [Host] = []
        var domains = DomainLists()
        var problems: [RoutingTableError.Problem] = []
        for (number, host) in virtualHosts.enumerated() {
            for domain in host.domains {
                if let message = domains.add(domain, of: number) {
                    problems.append(.init(place: host.name, message: message))
                }
            }
            let first = matches.count
            for route in host.routes {
                do throws(PatternError) {
                    let wanted = route.matches.isEmpty ? [RequestMatch()] : route.matches
                    for (index, match) in wanted.enumerated() {
                        matches.append(try pool.compile(match, entry: entries.count, number: index))
                    }
                    entries.append(try RouteEntry(route))
                } catch { problems.append(.init(place: "\(route.name)", message: "\(error)")) }
            }
            let range = first..<matches.count
            let (keyed, others) = Self.split(matches, range, pool)
            hosts.append(Host(name: host.name, matches: range, byPath: ByteIndex(keyed), others: others))
        }
        guard problems.isEmpty else { throw RoutingTableError(problems: problems) }
        self.pool = pool
        self.matches = matches
        self.entries = entries
        self.hosts = hosts
        exactHosts = ByteIndex(domains.exact)
        prefixHosts = ByteIndex(domains.prefixes)
        suffixHosts = ByteIndex(domains.suffixes)
        anyHost = domains.any
        singleHost = virtualHosts.count == 1 && virtualHosts[0].domains == ["*"]
    }

    private static func split(
        _ matches: [CompiledMatch], _ range: Range<Int>, _ pool: MatchPool
    ) -> (keyed: [(key: [UInt8], number: Int)], others: [Int]) {
        var keyed: [(key: [UInt8], number: Int)] = []
        var others: [Int] = []
        for number in range {
            switch matches[number].path {
            case .exact(let text), .prefix(let text), .elementPrefix(let text):
                if matches[number].ignoresPathCase || text.count == 0 {
                    others.append(number)
                } else {
                    keyed.append((Array(pool.bytes[text.range]), number))
                }
            case .any, .regex: others.append(number)
            }
        }
        return (keyed, others)
    }

    /// The route of a request.
    public func route(_ head: borrowing RequestHead, from origin: borrowing RequestOrigin) -> RoutingOutcome {
        guard let host = host(of: head) else { return .noHost }
        let path = head.pathOnly
        var best = Int.max
        func consider(_ number: Int) -> Bool {
            guard number < best else { return false }
            if pool.mismatch(matches[number], head, path: path, origin) == nil { best = number }
            return true
        }
        hosts[host].byPath.visitPrefixes(count: path.count, byte: { head.bytes[path.lowerBound + $0] }) {
            range in
            for place in range where !consider(hosts[host].byPath.numbers[place]) { return }
        }
        for number in hosts[host].others where !consider(number) { break }
        guard best < Int.max else { return .noRoute }
        return .route(entries[matches[best].entry], match: matches[best].number)
    }

    /// Exact names first, then the longest suffix, then the longest prefix, then `*` (Envoy's order, which is Istio's).
    /// A name with a port is for that port; any other one for all ports.
    private func host(of head: borrowing RequestHead) -> Int? {
        if singleHost { return 0 }
        let whole = head.authority
        let name = whole.lowerBound..<Self.portStart(head)
        if name.count < whole.count, let host = exactHost(head, whole) { return host }
        if let host = exactHost(head, name) { return host }
        if name.count < whole.count, let host = suffixHost(head, whole) { return host }
        return suffixHost(head, name) ?? prefixHost(head, name) ?? anyHost
    }

    private func exactHost(_ head: borrowing RequestHead, _ name: Range<Int>) -> Int? {
        exactHosts.number(count: name.count) { lowercased(head.bytes[name.lowerBound + $0]) }
    }

    private func suffixHost(_ head: borrowing RequestHead, _ name: Range<Int>) -> Int? {
        var found: Int?
        suffixHosts.visitPrefixes(
            count: name.count - 1, byte: { lowercased(head.bytes[name.upperBound - 1 - $0]) }
        ) { found = suffixHosts.numbers[$0.lowerBound] }
        return found
    }

    private func prefixHost(_ head: borrowing RequestHead, _ name: Range<Int>) -> Int? {
        var found: Int?
        prefixHosts.visitPrefixes(
            count: name.count - 1, byte: { lowercased(head.bytes[name.lowerBound + $0]) }
        ) { found = prefixHosts.numbers[$0.lowerBound] }
        return found
    }

    /// Where `:port` begins in the authority; its end where there is none.
    static func portStart(_ head: borrowing RequestHead) -> Int {
        let authority = head.authority
        var index = authority.upperBound
        while index > authority.lowerBound {
            index -= 1
            let byte = head.bytes[index]
            if byte == UInt8(ascii: ":") { return index }
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { break }
        }
        return authority.upperBound
    }
}

/// The names of a table's hosts by their form.
private struct DomainLists {
    var exact: [(key: [UInt8], number: Int)] = []
    var suffixes: [(key: [UInt8], number: Int)] = []
    var prefixes: [(key: [UInt8], number: Int)] = []
    var any: Int?
    private var known: Set<String> = []

    /// What is wrong with a name, or nil.
    mutating func add(_ domain: String, of host: Int) -> String? {
        let text = domain.lowercased()
        guard !text.isEmpty else { return "a domain is empty" }
        guard known.insert(text).inserted else { return "the domain \(domain) is there twice" }
        let stars = text.utf8.count { $0 == UInt8(ascii: "*") }
        if text == "*" {
            any = host
        } else if stars == 0 {
            exact.append((Array(text.utf8), host))
        } else if stars == 1, text.hasPrefix("*") {
            suffixes.append((text.utf8.dropFirst().reversed(), host))
        } else if stars == 1, text.hasSuffix("*") {
            prefixes.append((Array(text.utf8.dropLast()), host))
        } else {
            return "\(domain): a star stands at the beginning or at the end"
        }
        return nil
    }
}

// MARK: - Explanation

/// How a table came to its answer, route by route: for people.
public struct RoutingExplanation: Sendable {
    public struct Step: Hashable, Sendable {
        public var route: Route.Name
        /// Which of the route's matches.
        public var match: Int
        /// Why it did not hold; nil for the one that did.
        public var reason: String?
    }

    /// The virtual host's name; nil where none has the request's authority.
    public var host: String?
    /// In order, up to the one that held.
    public var steps: [Step] = []
    public var outcome: RoutingOutcome
}

extension RoutingTable {
    /// The same answer as `route`, with every match that was looked at and why it did not hold.
    public func explain(_ head: borrowing RequestHead, from origin: borrowing RequestOrigin)
        -> RoutingExplanation
    {
        guard let host = host(of: head) else { return RoutingExplanation(host: nil, outcome: .noHost) }
        var result = RoutingExplanation(host: hosts[host].name, outcome: .noRoute)
        for number in hosts[host].matches {
            let match = matches[number]
            let entry = entries[match.entry]
            let mismatch = pool.mismatch(match, head, path: head.pathOnly, origin)
            result.steps.append(
                .init(
                    route: entry.route.name, match: match.number,
                    reason: mismatch.map { reason($0, match, head, origin) }))
            if mismatch == nil {
                result.outcome = .route(entry, match: match.number)
                break
            }
        }
        return result
    }

    private func reason(
        _ mismatch: Mismatch, _ match: CompiledMatch, _ head: borrowing RequestHead,
        _ origin: borrowing RequestOrigin
    ) -> String {
        func name(_ number: Int) -> String {
            String(decoding: pool.bytes[pool.conditions[number].name.range], as: UTF8.self)
        }
        func shown(_ comparison: Comparison) -> String {
            switch comparison {
            case .exact(let text): "\"\(String(decoding: pool.bytes[text.range], as: UTF8.self))\""
            case .prefix(let text): "\"\(String(decoding: pool.bytes[text.range], as: UTF8.self))…\""
            case .regex(let number): "/\(pool.patterns[number].text)/"
            case .present: "any value"
            }
        }
        func wanted(_ what: String, _ got: Range<Int>, _ comparison: Comparison?) -> String {
            "the \(what) \"\(head.text(got))\" is not \(comparison.map(shown) ?? "")"
        }
        switch mismatch {
        case .path:
            let path = head.text(head.pathOnly)
            return switch match.path {
            case .any: ""
            case .exact(let text): "the path \"\(path)\" is not \(shown(.exact(text)))"
            case .prefix(let text): "the path \"\(path)\" is not \(shown(.prefix(text)))"
            case .elementPrefix(let text):
                "the path \"\(path)\" is not under \(shown(.exact(text)))"
            case .regex(let number): "the path \"\(path)\" is not \(shown(.regex(number)))"
            }
        case .method: return wanted("method", head.method, match.method)
        case .scheme: return wanted("scheme", head.scheme, match.scheme)
        case .authority: return wanted("authority", head.authority, match.authority)
        case .port: return "the port \(origin.port) is not \(match.port.map(String.init) ?? "")"
        case .header(let number):
            return "the header \(name(number)) is not \(shown(pool.conditions[number].value))"
        case .unwantedHeader(let number):
            return "the header \(name(number)) is \(shown(pool.conditions[number].value))"
        case .queryParameter(let number):
            return "the query parameter \(name(number)) is not \(shown(pool.conditions[number].value))"
        case .sourceNamespace:
            let namespace = match.origin.flatMap { pool.origins[$0].namespace } ?? ""
            return "the source's namespace \(origin.namespace) is not \(namespace)"
        case .sourceLabels:
            let labels = match.origin.map { pool.origins[$0].labels } ?? []
            return "the source's labels are not "
                + labels.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
        }
    }
}
