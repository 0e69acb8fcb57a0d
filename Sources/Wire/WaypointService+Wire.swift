import Address
import Mesh
import Protobuf
import Routing

private let appProtocols = EnumTable<Istio_Workload_AppProtocol, Service.AppProtocol>([
    .unknown: .unknown, .http11: .http11, .http2: .http2, .grpc: .grpc, .tcp: .tcp, .tls: .tls,
])

extension WaypointService {
    /// Takes what a waypoint runs on for a service from the wire.
    ///
    /// - Throws: for what the model cannot express. Nothing is dropped: a rule that is passed over lets another one take its requests.
    ///   Regular expressions are looked at when it is compiled.
    public init(_ wire: Warren_V1_WaypointService) throws(WireError) {
        self.init(
            try namespacedName(namespace: wire.namespace, name: wire.hostname, nameField: "hostname"),
            ports: try portMap(wire.ports, "ports") { (wire) throws(WireError) in try Port(wire) },
            destinations: try textMap(wire.destinations, "destinations") { (wire) throws(WireError) in
                try DestinationPolicy(wire)
            })
    }
}

extension Warren_V1_WaypointService {
    public init(_ service: WaypointService) {
        self.init()
        namespace = service.key.namespace
        hostname = service.key.name
        for (number, port) in service.ports { ports[UInt32(number)] = Warren_V1_ServicePort(port) }
        destinations = service.destinations.mapValues { Warren_V1_DestinationPolicy($0) }
    }
}

extension WaypointService.Port {
    fileprivate init(_ wire: Warren_V1_ServicePort) throws(WireError) {
        self.init(
            try appProtocols.model(wire.appProtocol, "app_protocol"),
            virtualHosts: try wire.virtualHosts.converted("virtual_hosts") { (wire) throws(WireError) in
                VirtualHost(
                    wire.name, domains: wire.domains,
                    routes: try wire.routes.converted("routes") { (wire) throws(WireError) in try Route(wire)
                    })
            },
            streams: try wire.streams.converted("streams") { (wire) throws(WireError) in
                try StreamRoute(wire)
            })
    }
}

extension Warren_V1_ServicePort {
    fileprivate init(_ port: WaypointService.Port) {
        self.init()
        appProtocol = appProtocols.wire(port.appProtocol)
        virtualHosts = port.virtualHosts.map { host in
            var wire = Warren_V1_VirtualHost()
            wire.name = host.name
            wire.domains = host.domains
            wire.routes = host.routes.map { Warren_V1_Route($0) }
            return wire
        }
        streams = port.streams.map { Warren_V1_StreamRoute($0) }
    }
}

extension StreamRoute {
    fileprivate init(_ wire: Warren_V1_StreamRoute) throws(WireError) {
        self.init(
            try Route.Name(wire.name),
            matches: try wire.matches.converted("matches") { (wire) throws(WireError) in
                var match = Match(
                    serverNames: wire.serverNames, port: try optionalPort(wire.port, "port"))
                match.destinationSubnets = try wire.destinationSubnets.converted("destination_subnets") {
                    (wire) throws(WireError) in
                    try Prefix(wire: wire.address, length: wire.hasLength ? wire.length : nil)
                }
                match.sourceNamespace = wire.hasSourceNamespace ? wire.sourceNamespace : nil
                match.sourceLabels = wire.sourceLabels
                return match
            },
            destinations: try weightedDestinations(wire.destinations))
    }
}

extension Warren_V1_StreamRoute {
    fileprivate init(_ route: StreamRoute) {
        self.init()
        name = Warren_V1_RouteName(route.name)
        matches = route.matches.map { match in
            var wire = Match()
            wire.serverNames = match.serverNames
            wire.port = UInt32(match.port ?? 0)
            wire.destinationSubnets = match.destinationSubnets.map { prefix in
                var wire = Istio_Workload_NetworkAddress()
                wire.address = prefix.address.bytes
                wire.length = UInt32(prefix.length)
                return wire
            }
            if let namespace = match.sourceNamespace { wire.sourceNamespace = namespace }
            wire.sourceLabels = match.sourceLabels
            return wire
        }
        destinations = route.destinations.map { Warren_V1_WeightedDestination($0) }
    }
}

// MARK: - Values

/// A map by port; what is refused is named by it.
func portMap<Wire, Value>(
    _ map: [UInt32: Wire], _ field: String, _ convert: (Wire) throws(WireError) -> Value
) throws(WireError) -> [UInt16: Value] {
    var result: [UInt16: Value] = [:]
    for (key, wire) in map.sorted(by: { $0.key < $1.key }) {
        result[try port(key, "\(field)[\(key)]")] = try within("\(field)[\(key)]") { () throws(WireError) in
            try convert(wire)
        }
    }
    return result
}

/// A map by a text that is not empty; what is refused is named by it.
func textMap<Wire, Value>(
    _ map: [String: Wire], _ field: String, _ convert: (Wire) throws(WireError) -> Value
) throws(WireError) -> [String: Value] {
    var result: [String: Value] = [:]
    for (key, wire) in map.sorted(by: { $0.key < $1.key }) {
        guard !key.isEmpty else { throw WireError("\(field)[]", "the key is empty") }
        result[key] = try within("\(field)[\(key)]") { () throws(WireError) in try convert(wire) }
    }
    return result
}

extension Duration {
    /// Not negative, and at most the 10,000 years that protobuf's own have.
    init(_ wire: Google_Protobuf_Duration, _ field: String) throws(WireError) {
        guard (0...315_576_000_000).contains(wire.seconds), (0...999_999_999).contains(wire.nanos) else {
            throw WireError(
                field, "\(wire.seconds) s and \(wire.nanos) ns are no span of time, or too long a one")
        }
        self.init(
            secondsComponent: wire.seconds, attosecondsComponent: Int64(wire.nanos) * 1_000_000_000)
    }
}

extension Google_Protobuf_Duration {
    /// To the nearest nanosecond.
    init(_ duration: Duration) {
        self.init()
        let parts = (duration + .nanoseconds(0.5)).components
        seconds = parts.seconds
        nanos = Int32(truncatingIfNeeded: parts.attoseconds / 1_000_000_000)
    }
}

/// A number in a range; the model's are `Int`s.
func number(_ value: UInt32, _ range: ClosedRange<Int>, _ field: String) throws(WireError) -> Int {
    guard range.contains(Int(value)) else {
        throw WireError(field, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
    }
    return Int(value)
}

func number(_ value: Double, _ range: ClosedRange<Double>, _ field: String) throws(WireError) -> Double {
    guard range.contains(value) else {
        throw WireError(field, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
    }
    return value
}
