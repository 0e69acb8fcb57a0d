import Mesh

/// What a waypoint does with the traffic to one service: the routes of each of its ports, and how the services that they
/// lead to are treated. It holds everything that a request needs; where the endpoints are is said by the workloads.
public struct WaypointService: Hashable, Sendable {
    public struct Port: Hashable, Sendable {
        /// `unknown`: the first bytes tell.
        public var appProtocol: Service.AppProtocol
        /// Of requests; empty where the protocol has none. Its one host is `*`: the address that was connected to has chosen the
        /// service, whatever name a request is for.
        public var virtualHosts: [VirtualHost]
        /// Of connections whose bytes are not looked into; empty where the protocol is one of requests.
        public var streams: [StreamRoute]

        public init(
            _ appProtocol: Service.AppProtocol, virtualHosts: [VirtualHost] = [], streams: [StreamRoute] = []
        ) {
            self.appProtocol = appProtocol
            self.virtualHosts = virtualHosts
            self.streams = streams
        }
    }

    /// Namespace and host name of the service, as in `Service.key`.
    public var key: NamespacedName
    /// By the service's own ports.
    public var ports: [UInt16: Port]
    /// By host: the services that `ports` lead to, itself among them. A host that is not here is unknown: requests for it are
    /// answered 503, as are those for a subset or a port that its policy does not name.
    public var destinations: [String: DestinationPolicy]

    public init(
        _ key: NamespacedName, ports: [UInt16: Port] = [:], destinations: [String: DestinationPolicy] = [:]
    ) {
        self.key = key
        self.ports = ports
        self.destinations = destinations
    }
}

/// A `WaypointService` made ready for matching. Immutable; may be used on any thread.
public final class CompiledWaypointService: Sendable {
    public let service: WaypointService
    private let tables: [UInt16: RoutingTable]
    private let streams: [UInt16: StreamTable]

    /// - Throws: when a regular expression or a domain cannot be used; every problem of it is named with its route and port.
    public init(_ service: WaypointService) throws(RoutingTableError) {
        self.service = service
        var tables: [UInt16: RoutingTable] = [:]
        var problems: [RoutingTableError.Problem] = []
        for (number, port) in service.ports where !port.virtualHosts.isEmpty {
            do throws(RoutingTableError) {
                tables[number] = try RoutingTable(port.virtualHosts)
            } catch {
                problems += error.problems.map {
                    .init(place: "port \(number) \($0.place)", message: $0.message)
                }
            }
        }
        guard problems.isEmpty else {
            throw RoutingTableError(
                problems: problems.sorted { ($0.place, $0.message) < ($1.place, $1.message) })
        }
        self.tables = tables
        streams = service.ports.filter { !$0.value.streams.isEmpty }.mapValues { StreamTable($0.streams) }
    }

    /// Nil where the service has no such port, or its protocol has no requests.
    public func table(port: UInt16) -> RoutingTable? { tables[port] }

    /// Nil where the service has no such port, or its protocol is one of requests.
    public func streams(port: UInt16) -> StreamTable? { streams[port] }

    /// How the traffic to a destination is treated; nil for a host or a subset that is unknown.
    public func traffic(to destination: Destination) -> TrafficPolicy? {
        service.destinations[destination.host]?.traffic(port: destination.port, subset: destination.subset)
    }
}
