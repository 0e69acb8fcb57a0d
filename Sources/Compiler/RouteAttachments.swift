import Documents
import Manifests
import Mesh
import Routing

/// The routes of the Gateway API that are attached to services (GAMMA, "Gateway API for service mesh").
///
/// A route of the service's own namespace is its producer's, and for everybody. One of another namespace is a consumer's: it is
/// for the requests of that namespace, and there takes the place of the producer's.
struct RouteAttachments {
    struct RequestRoutes {
        var routes: [Route] = []
        /// The producer's are among them: no other rules are asked.
        var isComplete = false
    }

    private struct Attachment {
        var meta: ObjectMeta
        var kind: Kind
        var rules: [GatewayRouteRule] = []
        var streams: [StreamRouteManifest.Rule] = []
        var serverNames: [String] = []
        var port: UInt16?
        var position: Position

        var name: String { "\(kind.rawValue) \(meta.namespace)/\(meta.name)" }
        var isStream: Bool { kind == .tcpRoute || kind == .tlsRoute }
    }

    private let hosts: HostDirectory
    private let grants: [ReferenceGrant]
    private let clusterDomain: String
    private var byService: [NamespacedName: [Attachment]] = [:]
    private var warned = Set<Problem>()

    init(_ index: ObjectIndex, _ hosts: HostDirectory) {
        self.hosts = hosts
        grants = index.referenceGrants
        clusterDomain = index.environment.clusterDomain
        for route in index.gatewayRoutes {
            switch route {
            case .httpRoute(let route):
                attach(
                    .init(
                        meta: route.meta, kind: .httpRoute, rules: route.rules, position: route.meta.position),
                    route.parents, route.hostnames, index)
            case .grpcRoute(let route):
                attach(
                    .init(
                        meta: route.meta, kind: .grpcRoute, rules: route.rules, position: route.meta.position),
                    route.parents, route.hostnames, index)
            case .tcpRoute(let route):
                attach(
                    .init(
                        meta: route.meta, kind: .tcpRoute, streams: route.rules, position: route.meta.position
                    ), route.parents, [], index)
            case .tlsRoute(let route):
                attach(
                    .init(
                        meta: route.meta, kind: .tlsRoute, streams: route.rules, serverNames: route.hostnames,
                        position: route.meta.position), route.parents, [], index)
            default: break
            }
        }
        // The oldest first, then by name (Gateway API, conflict resolution).
        for key in byService.keys {
            byService[key]?.sort {
                ($0.meta.creationTimestamp, $0.meta.namespace, $0.meta.name)
                    < ($1.meta.creationTimestamp, $1.meta.namespace, $1.meta.name)
            }
        }
    }

    private mutating func attach(
        _ route: Attachment, _ parents: [ParentReference], _ hostnames: [String], _ index: ObjectIndex
    ) {
        if parents.isEmpty {
            warn(
                route.meta.position,
                "\(route.name) has no effect: it has no parentRefs; name the Service that its requests are for"
            )
        }
        for parent in parents {
            let isEntry = parent.group == "networking.istio.io" && parent.kind == "ServiceEntry"
            guard parent.isService || isEntry else { continue }
            var attachment = route
            attachment.position = parent.position
            attachment.port = parent.port
            let keys: [NamespacedName]
            if isEntry {
                let entry = index.serviceEntries.first {
                    $0.meta.namespace == parent.namespace && $0.meta.name == parent.name
                }
                keys = (entry?.hosts ?? []).map { NamespacedName(namespace: parent.namespace, name: $0) }
            } else {
                keys = [
                    NamespacedName(
                        namespace: parent.namespace,
                        name: "\(parent.name).\(parent.namespace).svc.\(clusterDomain)")
                ]
            }
            if let section = parent.sectionName {
                let service = index.services[parent.namespace]?.first { $0.meta.name == parent.name }
                guard let port = service?.ports.first(where: { $0.name == section }),
                    parent.port == nil || parent.port == port.port
                else {
                    warn(
                        parent.position,
                        "\(route.name) is not attached: \(parent.kind) \(parent.namespace)/\(parent.name) has no port of the name \(quoted(section))"
                    )
                    continue
                }
                attachment.port = port.port
            }
            for key in keys {
                guard let service = hosts.service(key.name, seenFrom: key.namespace), service.key == key
                else {
                    continue
                }
                if let port = attachment.port, !service.ports.contains(where: { $0.servicePort == port }) {
                    warn(parent.position, "\(route.name) is not attached: \(key.name) has no port \(port)")
                    continue
                }
                if !hostnames.isEmpty {
                    warn(
                        route.meta.position,
                        "\(route.name): its hostnames are not looked at: the parent \(key.name) says whose requests it is for"
                    )
                }
                byService[key, default: []].append(attachment)
            }
            if !keys.contains(where: { hosts.service($0.name, seenFrom: $0.namespace)?.key == $0 }) {
                warn(
                    parent.position,
                    "\(route.name) is not attached: \(parent.kind) \(parent.namespace)/\(parent.name) does not exist"
                )
            }
        }
    }

    func hasRequestRoutes(_ service: Service) -> Bool {
        byService[service.key]?.contains { !$0.isStream && $0.meta.namespace == service.namespace } ?? false
    }

    private func attachments(_ service: Service, _ port: UInt16, isStream: Bool) -> [Attachment] {
        (byService[service.key] ?? []).filter { ($0.port ?? port) == port && $0.isStream == isStream }
    }

    // MARK: Requests

    /// - Parameter reached: gets the services that they lead to.
    mutating func requestRoutes(of service: Service, port: UInt16, _ reached: inout [Service])
        -> RequestRoutes
    {
        let all = attachments(service, port, isStream: false)
        var result = RequestRoutes()
        let consumers = Set(all.map(\.meta.namespace)).subtracting([service.namespace]).sorted()
        for namespace in consumers {
            let own = all.filter { $0.meta.namespace == namespace }
            result.routes += sorted(own, service, sourceNamespace: namespace, &reached)
            // What the consumer's routes do not take is not for the producer's.
            result.routes.append(
                Route(
                    .init(object: own.first?.name ?? namespace, rule: "unmatched", index: 0),
                    matches: [.from(namespace)],
                    action: .respond(DirectResponse(status: 404))))
        }
        let producers = all.filter { $0.meta.namespace == service.namespace }
        result.isComplete = !producers.isEmpty
        result.routes += sorted(producers, service, sourceNamespace: nil, &reached)
        return result
    }

    /// A route of every match, in the order of the Gateway API (HTTPRouteRule, `matches`).
    private mutating func sorted(
        _ attachments: [Attachment], _ service: Service, sourceNamespace: String?, _ reached: inout [Service]
    ) -> [Route] {
        var routes: [(rank: MatchRank, route: Route)] = []
        for attachment in attachments {
            let isGRPC = attachment.kind == .grpcRoute
            if attachment.rules.isEmpty {
                // Without rules there is one for everything, which has no backend.
                routes.append(
                    (
                        MatchRank(RequestMatch(path: .elementPrefix("/"))),
                        Route(
                            .init(object: attachment.name, index: 0), matches: [.from(sourceNamespace)],
                            action: .respond(DirectResponse(status: 500)))
                    ))
            }
            for (number, rule) in attachment.rules.enumerated() {
                let matches =
                    rule.matches.isEmpty
                    ? [isGRPC ? RequestMatch() : RequestMatch(path: .elementPrefix("/"))] : rule.matches
                let action = action(rule, attachment, service, &reached)
                for var match in matches {
                    let rank = MatchRank(match)
                    match.sourceNamespace = sourceNamespace
                    var route = Route(
                        .init(object: attachment.name, rule: rule.name, index: number), matches: [match],
                        action: action)
                    route.requestHeaders = rule.filters.requestHeaders
                    route.responseHeaders = rule.filters.responseHeaders
                    route.cors = rule.filters.cors
                    routes.append((rank, route))
                }
            }
        }
        // Stable: of one rank the oldest route stays first, and its first rule.
        return routes.enumerated().sorted {
            $0.element.rank == $1.element.rank ? $0.offset < $1.offset : $0.element.rank < $1.element.rank
        }.map(\.element.route)
    }

    private mutating func action(
        _ rule: GatewayRouteRule, _ attachment: Attachment, _ service: Service, _ reached: inout [Service]
    ) -> RouteAction {
        if let redirect = rule.filters.redirect { return .redirect(redirect) }
        guard !rule.backends.isEmpty else {
            warn(
                rule.position,
                "the rule of \(attachment.name) has no backendRefs: its requests are answered 500")
            return .respond(DirectResponse(status: 500))
        }
        var forwarding = Forwarding(
            rule.backends.map { backend in
                var weighted = WeightedDestination(
                    target(backend, attachment, &reached), weight: backend.weight)
                weighted.requestHeaders = backend.requestHeaders
                weighted.responseHeaders = backend.responseHeaders
                return weighted
            }, rewrite: rule.filters.rewrite)
        forwarding.timeout = rule.timeout
        forwarding.retries = rule.retries
        if let part = rule.backendTimeout {
            forwarding.retries = forwarding.retries ?? .meshDefault
            forwarding.retries?.perTryTimeout = part
        }
        forwarding.mirrors = rule.filters.mirrors.compactMap { mirror in
            guard case .service(let destination) = target(mirror.backend, attachment, &reached) else {
                return nil
            }
            return Mirror(destination, share: mirror.share)
        }
        return .forward(forwarding)
    }

    // MARK: Connections

    mutating func streamRoutes(of service: Service, port: UInt16, _ reached: inout [Service]) -> [StreamRoute]
    {
        var result: [StreamRoute] = []
        let all = attachments(service, port, isStream: true)
        let consumers = all.filter { $0.meta.namespace != service.namespace }
        for attachment in consumers + all.filter({ $0.meta.namespace == service.namespace }) {
            for (number, rule) in attachment.streams.enumerated() {
                var match = StreamRoute.Match(serverNames: attachment.serverNames)
                if attachment.meta.namespace != service.namespace {
                    match.sourceNamespace = attachment.meta.namespace
                }
                result.append(
                    StreamRoute(
                        .init(object: attachment.name, rule: rule.name, index: number), matches: [match],
                        destinations: rule.backends.map {
                            WeightedDestination(target($0, attachment, &reached), weight: $0.weight)
                        }))
            }
        }
        return result
    }

    /// A route of requests at a port whose protocol has none.
    mutating func noteNoRequests(of service: Service, port: UInt16) {
        for attachment in attachments(service, port, isStream: false)
        where attachment.port == port || service.ports.count == 1 {
            warn(
                attachment.position,
                "\(attachment.name) has no effect: port \(port) of \(service.hostname) is one of plain connections; name it http-…, http2-… or grpc-…, or set its appProtocol"
            )
        }
    }

    // MARK: Backends

    private mutating func target(
        _ backend: BackendReference, _ attachment: Attachment, _ reached: inout [Service]
    )
        -> WeightedDestination.Target
    {
        func unresolved(_ reason: String) -> WeightedDestination.Target {
            warn(
                backend.position,
                "the backend \(backend.name) of \(attachment.name) is not used: \(reason); its share of the requests is answered 500"
            )
            return .unresolved(reason)
        }
        let host: String
        if backend.isService {
            host = "\(backend.name).\(backend.namespace).svc.\(clusterDomain)"
        } else if backend.group == "networking.istio.io", backend.kind == "Hostname" {
            host = backend.name
        } else {
            return unresolved(
                "\(backend.kind) of group \(quoted(backend.group)) is no kind of backend here (InvalidKind)")
        }
        guard let service = hosts.service(host, seenFrom: backend.namespace),
            !backend.isService || service.namespace == backend.namespace
        else { return unresolved("\(host) does not exist (BackendNotFound)") }
        if backend.isService, backend.namespace != attachment.meta.namespace,
            !isGranted(backend, to: attachment)
        {
            return unresolved(
                "no ReferenceGrant of namespace \(backend.namespace) lets a \(attachment.kind.rawValue) of namespace \(attachment.meta.namespace) name it (RefNotPermitted)"
            )
        }
        let ports = service.ports.map(\.servicePort)
        guard let port = backend.port ?? (ports.count == 1 ? ports[0] : nil), ports.contains(port) else {
            return unresolved(
                backend.port.map { "\(host) has no port \($0) (BackendNotFound)" }
                    ?? "\(host) has several ports, and none is named")
        }
        reached.append(service)
        return .service(Destination(host, port: port))
    }

    private func isGranted(_ backend: BackendReference, to attachment: Attachment) -> Bool {
        grants.contains { grant in
            grant.meta.namespace == backend.namespace
                && grant.from.contains {
                    $0.group == "gateway.networking.k8s.io" && $0.kind == attachment.kind.rawValue
                        && $0.namespace == attachment.meta.namespace
                }
                && grant.to.contains {
                    $0.group == backend.group && $0.kind == backend.kind
                        && ($0.name ?? backend.name) == backend.name
                }
        }
    }

    // MARK: Warnings

    private mutating func warn(_ position: Position, _ message: String) {
        warned.insert(Problem(.warning, at: position, message))
    }

    /// - Parameter advice: what to do about a service without a waypoint; nil for one that has one.
    func warnings(_ advice: (Service) -> String?) -> [Problem] {
        var result = Array(warned)
        for (key, list) in byService {
            guard let service = hosts.service(key.name, seenFrom: key.namespace), let reason = advice(service)
            else { continue }
            for attachment in list {
                result.append(
                    Problem(.warning, at: attachment.position, "\(attachment.name) has no effect: \(reason)"))
            }
        }
        return result
    }
}

extension RequestMatch {
    /// Everything from a namespace; nil for everything.
    fileprivate static func from(_ namespace: String?) -> RequestMatch {
        var match = RequestMatch()
        match.sourceNamespace = namespace
        return match
    }
}

/// What makes one match of the Gateway API come before another.
private struct MatchRank: Comparable {
    private let key: [Int]

    init(_ match: RequestMatch) {
        let (kind, length) =
            switch match.path {
            case .exact(let text): (0, text.utf8.count)
            case .elementPrefix(let text), .prefix(let text): (1, text.utf8.count)
            case .regex(let text): (2, text.utf8.count)
            case nil: (3, 0)
            }
        key = [
            kind, -length, match.method == nil ? 1 : 0, -match.headers.count, -match.queryParameters.count,
        ]
    }

    static func < (a: MatchRank, b: MatchRank) -> Bool { a.key.lexicographicallyPrecedes(b.key) }
}
