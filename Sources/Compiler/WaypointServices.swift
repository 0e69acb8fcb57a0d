import Documents
import Manifests
import Mesh
import Routing

/// What each waypoint runs on, and what of the routes and rules comes to nothing.
struct WaypointServiceIndex {
    /// By waypoint, then by service.
    private(set) var services: [NamespacedName: [NamespacedName: WaypointService]] = [:]
    private(set) var warnings: [Problem] = []

    /// - Parameters:
    ///   - services: all of the mesh.
    ///   - workloads: all of the mesh, by uid.
    ///   - labels: of workloads, by uid.
    init(
        _ index: ObjectIndex, services: [NamespacedName: Service], workloads: [String: Workload],
        labels: [String: [String: String]]
    ) {
        let hosts = HostDirectory(services.values, clusterDomain: index.environment.clusterDomain)
        let sources = Self.sources(index, services)
        var endpoints: [NamespacedName: [String]] = [:]
        if !index.destinationRules.isEmpty {
            for workload in workloads.values {
                for service in workload.services.keys { endpoints[service, default: []].append(workload.uid) }
            }
        }
        var compilation = RouteCompilation(
            hosts: hosts, virtualServices: VirtualServiceIndex(index.virtualServices, hosts),
            attached: RouteAttachments(index, hosts),
            rules: DestinationRuleIndex(
                index.destinationRules, hosts, rootNamespace: index.environment.rootNamespace, labels: labels,
                endpoints: endpoints, sources: sources))
        var waypoints: [NamespacedName: [NamespacedName]] = [:]
        for (key, meta) in sources { waypoints[key] = index.waypoints.serving(meta) }
        for service in services.values.sorted(by: { $0.key < $1.key }) {
            for waypoint in waypoints[service.key] ?? [] {
                self.services[waypoint, default: [:]][service.key] = compilation.compile(
                    service, at: waypoint)
            }
        }
        warnings = compilation.allWarnings { service in
            guard waypoints[service.key]?.isEmpty ?? true else { return nil }
            return
                "no waypoint serves \(service.hostname); label \(hosts.description(of: service)), or Namespace \(service.namespace), with istio.io/use-waypoint and the name of a Gateway of class warren-waypoint"
        }
    }

    /// The objects that services come from.
    private static func sources(_ index: ObjectIndex, _ services: [NamespacedName: Service])
        -> [NamespacedName: ObjectMeta]
    {
        var result: [NamespacedName: ObjectMeta] = [:]
        for object in index.serviceEntries.sorted(by: { $0.meta.isOlder(than: $1.meta) }) {
            for host in object.hosts {
                let key = NamespacedName(namespace: object.meta.namespace, name: host)
                if result[key] == nil { result[key] = object.meta }
            }
        }
        for object in index.services.values.joined() {
            result[NamespacedName(namespace: object.meta.namespace, name: index.hostname(of: object))] =
                object.meta
        }
        return result.filter { services[$0.key] != nil }
    }
}

/// Compiles the routes of services, and notes on the way what of the objects is used.
struct RouteCompilation {
    let hosts: HostDirectory
    let virtualServices: VirtualServiceIndex
    private var attached: RouteAttachments
    private var rules: DestinationRuleIndex
    private var warned = Set<Problem>()

    init(
        hosts: HostDirectory, virtualServices: VirtualServiceIndex, attached: RouteAttachments,
        rules: DestinationRuleIndex
    ) {
        self.hosts = hosts
        self.virtualServices = virtualServices
        self.attached = attached
        self.rules = rules
    }

    /// What is known while one service is compiled.
    struct Scope {
        var service: Service
        var waypoint: NamespacedName
        /// The services that its routes lead to, by host.
        var reached: [String: Service]
        var policies: [String: DestinationPolicy] = [:]
    }

    mutating func compile(_ service: Service, at waypoint: NamespacedName) -> WaypointService {
        var scope = Scope(service: service, waypoint: waypoint, reached: [service.hostname: service])
        scope.policies[service.hostname] = rules.policy(for: service, waypointNamespace: waypoint.namespace)
        let applicable = applicable(scope)
        var result = WaypointService(service.key)
        var isVirtual = false
        // What routes of the Gateway API lead to.
        var reached: [Service] = []
        for port in service.ports {
            var compiled = WaypointService.Port(port.appProtocol)
            let number = port.servicePort
            if port.appProtocol != .tcp, port.appProtocol != .tls {
                var routes = attached.requestRoutes(of: service, port: number, &reached)
                if !routes.isComplete {
                    let own = requestRoutes(applicable, number, &scope)
                    isVirtual = isVirtual || !own.isEmpty
                    routes.routes += own.isEmpty ? [defaultRoute(service, number)] : own
                }
                compiled.virtualHosts = [VirtualHost(service.hostname, routes: routes.routes)]
            } else {
                attached.noteNoRequests(of: service, port: number)
            }
            if port.appProtocol == .tcp || port.appProtocol == .tls || port.appProtocol == .unknown {
                compiled.streams = attached.streamRoutes(of: service, port: number, &reached)
                if compiled.streams.isEmpty { compiled.streams = streamRoutes(applicable, number, &scope) }
                compiled.streams.append(defaultStream(service, number))
            }
            result.ports[number] = compiled
        }
        if isVirtual == false, attached.hasRequestRoutes(service) {
            for object in applicable where !object.http.isEmpty {
                warn(
                    object.meta.position,
                    "VirtualService \(object.meta.namespace)/\(object.meta.name): its http rules have no effect for \(service.hostname): the routes of the Gateway API that are attached to it take their place"
                )
            }
        }
        for service in reached { reach(service, &scope) }
        result.destinations = scope.policies
        return result
    }

    // MARK: Without routes

    private func defaultRoute(_ service: Service, _ port: UInt16) -> Route {
        Route(
            .init(object: "default", index: 0),
            action: .forward(Forwarding([WeightedDestination(Destination(service.hostname, port: port))])))
    }

    private func defaultStream(_ service: Service, _ port: UInt16) -> StreamRoute {
        StreamRoute(
            .init(object: "default", index: 0),
            destinations: [WeightedDestination(Destination(service.hostname, port: port))])
    }

    // MARK: VirtualServices

    /// Those that the waypoint takes: of the service's namespace or of its own.
    private mutating func applicable(_ scope: Scope) -> [VirtualService] {
        let (service, waypoint) = (scope.service, scope.waypoint)
        var taker: VirtualService?
        return virtualServices.matching(service.hostname).filter { object in
            let name = "VirtualService \(object.meta.namespace)/\(object.meta.name)"
            guard [service.namespace, waypoint.namespace].contains(object.meta.namespace) else {
                let namespaces = Set([service.namespace, waypoint.namespace]).sorted().joined(
                    separator: " and ")
                warn(
                    object.meta.position,
                    "\(name) has no effect for \(service.hostname): its waypoint \(waypoint) goes by VirtualServices of namespace \(namespaces) only"
                )
                return false
            }
            guard isExported(object.exportTo, of: object.meta.namespace, to: waypoint.namespace) else {
                warn(
                    object.meta.position,
                    "\(name) has no effect for \(service.hostname): its exportTo leaves out namespace \(waypoint.namespace), where the waypoint \(waypoint) is"
                )
                return false
            }
            if let taker, !object.http.isEmpty {
                let first =
                    "VirtualService \(taker.meta.namespace)/\(taker.meta.name) at \(taker.meta.position)"
                let isClosed = taker.http.contains { $0.matches.isEmpty }
                warn(
                    object.meta.position,
                    isClosed
                        ? "\(name): its http rules have no effect for \(service.hostname): the older \(first) has a rule that takes every request"
                        : "\(name): its http rules come after those of the older \(first), which is for \(service.hostname) too"
                )
            }
            // Of several the first that takes everything is the one to name.
            if !object.http.isEmpty, taker.map({ !$0.http.contains { $0.matches.isEmpty } }) ?? true {
                taker = object
            }
            return true
        }
    }

    private mutating func requestRoutes(_ objects: [VirtualService], _ port: UInt16, _ scope: inout Scope)
        -> [Route]
    {
        var result: [Route] = []
        for object in objects {
            for (number, rule) in object.http.enumerated() {
                let matches = rule.matches.filter { isForMesh($0, object) }
                guard rule.matches.isEmpty || !matches.isEmpty else { continue }
                guard let action = action(rule, object, port, &scope) else { continue }
                var route = Route(
                    .init(
                        object: "VirtualService \(object.meta.namespace)/\(object.meta.name)",
                        rule: rule.name,
                        index: number),
                    matches: matches.map(\.match), action: action)
                route.requestHeaders = rule.requestHeaders
                _ = route.requestHeaders.takeAuthority()
                route.responseHeaders = rule.responseHeaders
                route.cors = rule.cors
                result.append(route)
            }
        }
        return result
    }

    /// Whether a match is for traffic in the mesh, and one that a waypoint can tell.
    private mutating func isForMesh(_ match: VirtualService.HTTPMatch, _ object: VirtualService) -> Bool {
        guard match.gateways.isEmpty || match.gateways.contains("mesh") else { return false }
        guard match.match.sourceLabels.isEmpty else {
            warn(
                match.position,
                "the match is left out: sourceLabels are not known at a waypoint, which knows a client by its identity; match sourceNamespace or a header instead"
            )
            return false
        }
        return true
    }

    private mutating func action(
        _ rule: VirtualService.HTTPRule, _ object: VirtualService, _ port: UInt16, _ scope: inout Scope
    ) -> RouteAction? {
        switch rule.action {
        case .redirect(let redirect): return .redirect(redirect)
        case .respond(let response): return .respond(response)
        case .delegate: return nil
        case .forward(let destinations):
            var forwarding = Forwarding(
                destinations.map { weighted($0, object, port, &scope) }, rewrite: rule.rewrite)
            var headers = rule.requestHeaders
            var authority = headers.takeAuthority()
            if forwarding.destinations.count == 1, let own = forwarding.destinations[0].authority {
                authority = own
                forwarding.destinations[0].authority = nil
            }
            if let authority {
                forwarding.rewrite = Rewrite(path: rule.rewrite?.path, authority: authority)
            }
            forwarding.timeout = rule.timeout
            forwarding.retries = rule.retries
            forwarding.fault = rule.fault
            forwarding.mirrors = rule.mirrors.map { mirror in
                Mirror(
                    destination(mirror.destination, object, rule.position, port, &scope), share: mirror.share)
            }
            return .forward(forwarding)
        }
    }

    private mutating func weighted(
        _ route: VirtualService.RouteDestination, _ object: VirtualService, _ port: UInt16,
        _ scope: inout Scope
    ) -> WeightedDestination {
        var result = WeightedDestination(
            destination(route.destination, object, route.position, port, &scope), weight: route.weight)
        result.requestHeaders = route.requestHeaders
        result.authority = result.requestHeaders.takeAuthority()
        result.responseHeaders = route.responseHeaders
        return result
    }

    /// The destination with its full name and its port.
    private mutating func destination(
        _ written: Destination, _ object: VirtualService, _ position: Position, _ port: UInt16,
        _ scope: inout Scope
    ) -> Destination {
        var result = written
        result.host = hosts.fullName(written.host, in: object.meta.namespace)
        guard let service = reach(result.host, &scope) else {
            warn(
                position,
                "the destination \(result.host) is no Service and no ServiceEntry: requests for it are answered 503"
            )
            return result
        }
        let ports = service.ports.map(\.servicePort)
        if let given = written.port {
            if !ports.contains(given) {
                warn(
                    position,
                    "the destination \(result.host) has no port \(given): requests for it are answered 503")
            }
        } else if ports.count == 1 {
            result.port = ports[0]
        } else {
            result.port = port
            if !ports.contains(port) {
                warn(
                    position,
                    "the destination \(result.host) has several ports, and none is \(port), to which the requests come: name one, or they are answered 503"
                )
            }
        }
        if let subset = written.subset, scope.policies[result.host]?.subsets[subset] == nil {
            warn(
                position,
                "no DestinationRule for \(result.host) that the waypoint \(scope.waypoint) goes by declares the subset \(quoted(subset)): requests for it are answered 503"
            )
        }
        return result
    }

    /// The service behind a host, which from now on is one of those that the routes lead to.
    private mutating func reach(_ host: String, _ scope: inout Scope) -> Service? {
        if let known = scope.reached[host] { return known }
        guard let service = hosts.service(host, seenFrom: scope.service.namespace) else { return nil }
        reach(service, &scope)
        return service
    }

    private mutating func reach(_ service: Service, _ scope: inout Scope) {
        guard scope.reached.updateValue(service, forKey: service.hostname) == nil else { return }
        scope.policies[service.hostname] = rules.policy(
            for: service, waypointNamespace: scope.waypoint.namespace)
    }

    private mutating func streamRoutes(
        _ objects: [VirtualService], _ port: UInt16, _ scope: inout Scope
    ) -> [StreamRoute] {
        var result: [StreamRoute] = []
        // A server name says more than an address.
        for list in [\VirtualService.tls, \VirtualService.tcp] {
            for object in objects {
                for (number, rule) in object[keyPath: list].enumerated() {
                    let matches = rule.matches.filter { match in
                        guard match.match.sourceLabels.isEmpty else {
                            warn(
                                rule.position,
                                "a match is left out: sourceLabels are not known at a waypoint, which knows a client by its identity; match sourceNamespace instead"
                            )
                            return false
                        }
                        return match.gateways.isEmpty || match.gateways.contains("mesh")
                    }
                    guard rule.matches.isEmpty || !matches.isEmpty else { continue }
                    let destinations = rule.destinations.map { weighted($0, object, port, &scope) }
                    result.append(
                        StreamRoute(
                            .init(
                                object: "VirtualService \(object.meta.namespace)/\(object.meta.name)",
                                index: number),
                            matches: matches.map(\.match), destinations: destinations))
                }
            }
        }
        return result
    }

    // MARK: Warnings

    private mutating func warn(_ position: Position, _ message: String) {
        warned.insert(Problem(.warning, at: position, message))
    }

    /// - Parameter advice: what to do about a service without a waypoint; nil for one that has one.
    func allWarnings(_ advice: (Service) -> String?) -> [Problem] {
        var result = Array(warned) + virtualServices.warnings + attached.warnings(advice) + rules.warnings
        result += rules.unusedWarnings(advice)
        for object in virtualServices.roots {
            let name = "VirtualService \(object.meta.namespace)/\(object.meta.name)"
            for host in object.hosts {
                let full = hosts.fullName(host, in: object.meta.namespace)
                let found = hosts.services(matching: full)
                // A wildcard stands for what there is; a service that nobody put behind a waypoint need not be meant.
                let reasons = found.compactMap(advice)
                if found.isEmpty {
                    result.append(
                        Problem(
                            .warning, at: object.meta.position,
                            "\(name) has no effect for \(full), which is no Service and no ServiceEntry"))
                } else if reasons.count == found.count {
                    result.append(
                        Problem(.warning, at: object.meta.position, "\(name) has no effect: \(reasons[0])"))
                }
            }
        }
        return Array(Set(result))
    }
}

extension HeaderOperations {
    /// Takes out what `set` says of the authority: Istio rewrites it by `:authority` and by `Host` alike.
    fileprivate mutating func takeAuthority() -> String? {
        let value = self.set.last { $0.name == ":authority" || $0.name == "host" }?.value
        self.set.removeAll { $0.name == ":authority" || $0.name == "host" }
        return value
    }
}
