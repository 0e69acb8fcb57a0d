import Documents
import Manifests
import Mesh
import Routing

/// The VirtualServices that are for traffic in the mesh, with what they delegate put in.
struct VirtualServiceIndex {
    /// The oldest first.
    private(set) var roots: [VirtualService] = []
    private(set) var warnings: [Problem] = []
    private let hosts: HostDirectory
    /// Places in `roots` by exact host, and with wildcards.
    private var exact: [String: [Int]] = [:]
    private var wildcards: [(host: HostPattern, place: Int)] = []

    init(_ all: [VirtualService], _ hosts: HostDirectory) {
        self.hosts = hosts
        let byName = Dictionary(
            all.map { (NamespacedName(namespace: $0.meta.namespace, name: $0.meta.name), $0) }
        ) { first, _ in first }
        // Bound to other gateways only it is none of a waypoint's business; without hosts it is there for others.
        for var service in all.sorted(by: { $0.meta.isOlder(than: $1.meta) })
        where service.gateways.contains("mesh") && !service.hosts.isEmpty {
            let meta = service.meta
            service.http = service.http.flatMap { rule -> [VirtualService.HTTPRule] in
                guard case .delegate(let target) = rule.action else { return [rule] }
                let name = NamespacedName(
                    namespace: target.namespace.isEmpty ? meta.namespace : target.namespace, name: target.name
                )
                guard let delegate = byName[name], delegate.hosts.isEmpty,
                    isExported(delegate.exportTo, of: name.namespace, to: meta.namespace)
                else {
                    let reason =
                        byName[name] == nil
                        ? "does not exist"
                        : byName[name]?.hosts.isEmpty == false
                            ? "has hosts of its own, and cannot be delegated to"
                            : "is not exported to namespace \(meta.namespace)"
                    warnings.append(
                        Problem(
                            .warning, at: rule.position,
                            "VirtualService \(name) \(reason): the rule that delegates to it is left out"))
                    return []
                }
                return merge(rule, with: delegate)
            }
            for host in service.hosts {
                let full = hosts.fullName(host, in: meta.namespace)
                if full.hasPrefix("*") {
                    wildcards.append((HostPattern(full), roots.count))
                } else {
                    exact[full, default: []].append(roots.count)
                }
            }
            roots.append(service)
        }
    }

    /// The VirtualServices for a service: those with its exact name first, then those with the longest wildcard, the oldest first.
    func matching(_ host: String) -> [VirtualService] {
        var ranks: [Int: Int] = [:]
        for place in exact[host] ?? [] { ranks[place] = 0 }
        for (pattern, place) in wildcards where pattern.matches(host) {
            ranks[place] = min(ranks[place] ?? Int.max, pattern.rank)
        }
        return ranks.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map { roots[$0.key] }
    }

    // MARK: Delegates

    private mutating func merge(_ root: VirtualService.HTTPRule, with delegate: VirtualService)
        -> [VirtualService.HTTPRule]
    {
        delegate.http.compactMap { rule in
            // One level only.
            if case .delegate = rule.action { return nil }
            guard let matches = Self.merge(root.matches, rule.matches) else {
                warnings.append(
                    Problem(
                        .warning, at: rule.position,
                        "the rule is left out: what it matches lies outside of what the rule at \(root.position) delegates"
                    ))
                return nil
            }
            var result = rule
            result.matches = matches
            result.name = [root.name, rule.name].filter { !$0.isEmpty }.joined(separator: "-")
            result.rewrite = rule.rewrite ?? root.rewrite
            result.timeout = rule.timeout ?? root.timeout
            result.retries = rule.retries ?? root.retries
            result.fault = rule.fault ?? root.fault
            result.cors = rule.cors ?? root.cors
            if rule.mirrors.isEmpty { result.mirrors = root.mirrors }
            if rule.requestHeaders.isEmpty, rule.responseHeaders.isEmpty {
                result.requestHeaders = root.requestHeaders
                result.responseHeaders = root.responseHeaders
            }
            // Short names are those of the namespace that they were written in.
            let namespace = delegate.meta.namespace
            if case .forward(let destinations) = rule.action {
                result.action = .forward(
                    destinations.map {
                        var destination = $0
                        destination.destination.host = hosts.fullName($0.destination.host, in: namespace)
                        return destination
                    })
            }
            if !rule.mirrors.isEmpty {
                result.mirrors = rule.mirrors.map {
                    var mirror = $0
                    mirror.destination.host = hosts.fullName($0.destination.host, in: namespace)
                    return mirror
                }
            }
            return result
        }
    }

    /// Every match of the delegate within every match of the root that it does not contradict; nil where one of the delegate's is
    /// within none, for then it would take what it was not given.
    static func merge(_ root: [VirtualService.HTTPMatch], _ delegate: [VirtualService.HTTPMatch])
        -> [VirtualService.HTTPMatch]?
    {
        if root.isEmpty { return delegate }
        if delegate.isEmpty { return root }
        var result: [VirtualService.HTTPMatch] = []
        for inner in delegate {
            let merged = root.filter { !contradict($0, inner) }.map { merge($0, inner) }
            guard !merged.isEmpty else { return nil }
            result += merged
        }
        return result
    }

    private static func merge(_ root: VirtualService.HTTPMatch, _ inner: VirtualService.HTTPMatch)
        -> VirtualService.HTTPMatch
    {
        var result = inner
        if inner.gateways.isEmpty { result.gateways = root.gateways }
        let outer = root.match
        result.match.name = [outer.name, inner.match.name].filter { !$0.isEmpty }.joined(separator: "-")
        if inner.match.path == nil {
            result.match.path = outer.path
            result.match.ignoresPathCase = outer.ignoresPathCase
        }
        result.match.method = inner.match.method ?? outer.method
        result.match.scheme = inner.match.scheme ?? outer.scheme
        result.match.authority = inner.match.authority ?? outer.authority
        result.match.port = inner.match.port ?? outer.port
        result.match.sourceNamespace = inner.match.sourceNamespace ?? outer.sourceNamespace
        result.match.sourceLabels.merge(outer.sourceLabels) { inner, _ in inner }
        result.match.headers = merge(outer.headers, inner.match.headers)
        result.match.withoutHeaders = merge(outer.withoutHeaders, inner.match.withoutHeaders)
        result.match.queryParameters = merge(outer.queryParameters, inner.match.queryParameters)
        return result
    }

    private static func merge(_ outer: [NamedMatch], _ inner: [NamedMatch]) -> [NamedMatch] {
        let named = Set(inner.map(\.name))
        return (inner + outer.filter { !named.contains($0.name) }).sorted { $0.name < $1.name }
    }

    private static func contradict(_ root: VirtualService.HTTPMatch, _ inner: VirtualService.HTTPMatch)
        -> Bool
    {
        let (outer, match) = (root.match, inner.match)
        if let mine = outer.path, let theirs = match.path {
            guard outer.ignoresPathCase == match.ignoresPathCase,
                isWithin(theirs.asText, mine.asText)
            else { return true }
        }
        for (mine, theirs) in [
            (outer.method, match.method), (outer.scheme, match.scheme), (outer.authority, match.authority),
        ] {
            if let mine, let theirs, !isWithin(theirs, mine) { return true }
        }
        for (mine, theirs) in [
            (outer.headers, match.headers), (outer.withoutHeaders, match.withoutHeaders),
            (outer.queryParameters, match.queryParameters),
        ] {
            for named in mine {
                if let other = theirs.first(where: { $0.name == named.name }),
                    !isWithin(other.value, named.value)
                {
                    return true
                }
            }
        }
        if let mine = outer.port, let theirs = match.port, mine != theirs { return true }
        if let mine = outer.sourceNamespace, let theirs = match.sourceNamespace, mine != theirs {
            return true
        }
        return outer.sourceLabels.contains { key, value in
            match.sourceLabels[key].map { $0 != value } ?? false
        }
    }

    /// Whether everything that the inner one takes is taken by the outer one. Nobody can tell of two regular expressions.
    private static func isWithin(_ inner: StringMatch, _ outer: StringMatch) -> Bool {
        switch (outer, inner) {
        case (.present, _): true
        case (.exact(let text), .exact(let other)): text == other
        case (.prefix(let text), .exact(let other)), (.prefix(let text), .prefix(let other)):
            other.hasPrefix(text)
        default: false
        }
    }
}

extension PathMatch {
    fileprivate var asText: StringMatch {
        switch self {
        case .exact(let text): .exact(text)
        case .prefix(let text), .elementPrefix(let text): .prefix(text)
        case .regex(let text): .regex(text)
        }
    }
}
