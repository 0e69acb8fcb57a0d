import Compiler
import Documents
import Mesh
import Routing
import Testing

extension MeshResources {
    /// What a waypoint, `namespace/name`, runs on for a service of its short name in that namespace.
    func waypointService(_ waypoint: String, _ service: String, in namespace: String? = nil)
        -> WaypointService?
    {
        let key = name(waypoint)
        let host =
            service.contains(".") ? service : "\(service).\(namespace ?? key.namespace).svc.cluster.local"
        return waypointServices[key]?[NamespacedName(namespace: namespace ?? key.namespace, name: host)]
    }
}

extension WaypointService {
    func outcome(
        port: UInt16, _ path: String = "/", method: String = "GET", headers: [(String, String)] = [],
        from namespace: String = "client"
    ) throws -> RoutingOutcome {
        let compiled = try CompiledWaypointService(self)
        let table = try #require(compiled.table(port: port))
        return table.route(
            RequestHead(method: method, authority: "any.example", path: path, headers: headers),
            from: RequestOrigin(port: port, namespace: namespace))
    }

    /// The route that takes a request; nil for 404.
    func route(
        port: UInt16, _ path: String = "/", method: String = "GET", headers: [(String, String)] = [],
        from namespace: String = "client"
    ) throws -> Route? {
        guard
            case .route(let entry, _) = try outcome(
                port: port, path, method: method, headers: headers, from: namespace)
        else { return nil }
        return entry.route
    }

    func forwarding(
        port: UInt16, _ path: String = "/", method: String = "GET", headers: [(String, String)] = [],
        from namespace: String = "client"
    ) throws -> Forwarding? {
        let route = try route(port: port, path, method: method, headers: headers, from: namespace)
        guard case .forward(let forwarding)? = route?.action else { return nil }
        return forwarding
    }

    /// Where a request goes, in a word: the destinations' first labels, a status, or where to.
    func text(
        port: UInt16 = 80, _ path: String = "/", method: String = "GET", headers: [(String, String)] = [],
        from namespace: String = "client"
    ) throws -> String {
        switch try route(port: port, path, method: method, headers: headers, from: namespace)?.action {
        case .forward(let forwarding):
            forwarding.destinations.map(\.short).joined(separator: " ")
        case .respond(let response): "\(response.status)"
        case .redirect(let redirect): "redirect \(redirect.status)"
        case nil: "404"
        }
    }
}

extension WeightedDestination {
    var text: String {
        switch target {
        case .service(let destination): "\(destination) \(weight)"
        case .unresolved(let reason): "unresolved: \(reason)"
        }
    }

    /// The first label of its host, with its subset.
    var short: String {
        switch target {
        case .service(let destination):
            String(destination.host.prefix { $0 != "." }) + (destination.subset.map { "/\($0)" } ?? "")
        case .unresolved: "500"
        }
    }
}
