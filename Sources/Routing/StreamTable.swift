import Address

/// A rule for connections whose bytes are not looked into: by port, destination, source and, for TLS, by server name
/// (VirtualService `tcp` and `tls`; TCPRoute, TLSRoute).
public struct StreamRoute: Hashable, Sendable {
    public struct Match: Hashable, Sendable {
        /// `a.example` or `*.example`; empty for connections without TLS as for those with it.
        public var serverNames: [String] = []
        public var port: UInt16?
        public var destinationSubnets: [Prefix] = []
        public var sourceNamespace: String?
        public var sourceLabels: [String: String] = [:]

        public init(serverNames: [String] = [], port: UInt16? = nil) {
            self.serverNames = serverNames
            self.port = port
        }
    }

    public var name: Route.Name
    /// Any of them; none at all is met by every connection.
    public var matches: [Match]
    public var destinations: [WeightedDestination]

    public init(_ name: Route.Name, matches: [Match] = [], destinations: [WeightedDestination]) {
        self.name = name
        self.matches = matches
        self.destinations = destinations
    }
}

/// Stream routes in order; the first that takes a connection is the one that counts.
public struct StreamTable: Hashable, Sendable {
    public var routes: [StreamRoute]

    public init(_ routes: [StreamRoute]) {
        self.routes = routes
    }

    /// The index of the route of a connection; nil where none takes it.
    ///
    /// - Parameter serverName: of the TLS ClientHello, in lower case (RFC 6066 §3); nil where there was none.
    public func route(
        serverName: String?, destination: IPAddress?, from origin: RequestOrigin
    ) -> Int? {
        routes.firstIndex { route in
            route.matches.isEmpty
                || route.matches.contains { Self.holds($0, serverName, destination, origin) }
        }
    }

    private static func holds(
        _ match: StreamRoute.Match, _ serverName: String?, _ destination: IPAddress?, _ origin: RequestOrigin
    ) -> Bool {
        if let port = match.port, port != origin.port { return false }
        if !match.serverNames.isEmpty {
            guard let serverName, match.serverNames.contains(where: { matches($0, serverName) }) else {
                return false
            }
        }
        if !match.destinationSubnets.isEmpty {
            guard let destination, match.destinationSubnets.contains(where: { $0.contains(destination) })
            else { return false }
        }
        if let namespace = match.sourceNamespace, namespace != origin.namespace { return false }
        return match.sourceLabels.allSatisfy { origin.labels[$0.key] == $0.value }
    }

    /// Whether a name is the wanted one, or under it where that is a wildcard.
    public static func matches(_ wanted: String, _ name: String) -> Bool {
        if wanted == "*" { return true }
        guard wanted.utf8.first == UInt8(ascii: "*") else { return wanted == name }
        let suffix = wanted.dropFirst()
        return name.utf8.count > suffix.utf8.count && name.hasSuffix(suffix)
    }
}
