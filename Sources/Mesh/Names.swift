import Address

/// `namespace/name`: how policies and services (there the name is the host name) are keyed on the wire and in the store.
public struct NamespacedName: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let namespace: String
    public let name: String

    public init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    /// Parses `namespace/name`; the name may hold no further slash, and neither part may be empty.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        self.init(namespace: String(parts[0]), name: String(parts[1]))
    }

    public var description: String { "\(namespace)/\(name)" }

    public static func < (a: NamespacedName, b: NamespacedName) -> Bool {
        a.namespace != b.namespace ? a.namespace < b.namespace : a.name < b.name
    }
}

/// An address within a network (`istio.workload.NetworkAddress`). The empty network is the default one.
public struct NetworkAddress: Hashable, Sendable, CustomStringConvertible {
    public let network: String
    public let address: IPAddress

    public init(network: String, address: IPAddress) {
        self.network = network
        self.address = address
    }

    /// `network/address`, as istiod's aliases and ztunnel's dumps have it.
    public var description: String { "\(network)/\(address)" }
}

/// Where a waypoint or network gateway is reached (`istio.workload.GatewayAddress`).
public struct GatewayAddress: Hashable, Sendable, CustomStringConvertible {
    public enum Destination: Hashable, Sendable {
        /// A service by `namespace/hostname`.
        case hostname(NamespacedName)
        case address(NetworkAddress)
    }

    public let destination: Destination
    /// `hbone_mtls_port`, 15008 as istiod sends it.
    public let hbonePort: UInt16

    public init(destination: Destination, hbonePort: UInt16 = 15_008) {
        self.destination = destination
        self.hbonePort = hbonePort
    }

    public var description: String {
        switch destination {
        case .hostname(let name): "\(name):\(hbonePort)"
        case .address(let address): "\(address):\(hbonePort)"
        }
    }
}

/// Where something is (`istio.workload.Locality`; empty parts are unknown).
public struct Locality: Hashable, Sendable {
    public let region: String
    public let zone: String
    public let subzone: String

    public init(region: String = "", zone: String = "", subzone: String = "") {
        self.region = region
        self.zone = zone
        self.subzone = subzone
    }
}
