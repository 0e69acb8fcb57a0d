import Protobuf
import Wire

/// What the discovery service hands out.
public enum ResourceType: String, CaseIterable, Sendable {
    /// Workloads and services, to every proxy.
    case address
    /// Layer-4 policies, to every proxy.
    case authorization
    /// The pods to capture, to their own node.
    case localPod
    /// What a waypoint runs on, to that waypoint: the services that are bound to it.
    case waypointService

    public var typeURL: String {
        switch self {
        case .address: Istio_Workload_Address.typeURL
        case .authorization: Istio_Security_Authorization.typeURL
        case .localPod: Warren_V1_LocalPod.typeURL
        case .waypointService: Warren_V1_WaypointService.typeURL
        }
    }

    public init?(typeURL: String) {
        guard let type = Self.allCases.first(where: { $0.typeURL == typeURL }) else { return nil }
        self = type
    }

    /// The type's name in Istio's metrics and tables.
    public var shortName: String {
        switch self {
        case .address: "WDS"
        case .authorization: "WADS"
        case .localPod: "LPDS"
        case .waypointService: "WSDS"
        }
    }
}

/// One resource in the form in which it leaves: encoded once, however many proxies it goes to.
public struct PublishedResource: Hashable, Sendable {
    public let name: String
    /// A hash of the contents: equal versions are equal resources, also after a restart.
    public let version: String
    /// Other names by which it may be asked for.
    public let aliases: [String]
    /// `envoy.service.discovery.v3.Resource`, serialized.
    let encoded: [UInt8]

    public init(name: String, aliases: [String] = [], _ message: some Message) {
        var resource = Envoy_Service_Discovery_V3_Resource()
        let contents = Google_Protobuf_Any(message: message)
        var hash = ContentHash()
        hash.combine(contents.value)
        version = hash.description
        resource.name = name
        resource.version = version
        resource.aliases = aliases
        resource.resource = contents
        self.name = name
        self.aliases = aliases
        encoded = resource.serializedBytes()
    }
}

/// FNV-1a of 128 bits: the same on every run, unlike the hash of the standard library. Not against an adversary, who
/// could as well write the configuration.
struct ContentHash: CustomStringConvertible {
    private var state: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d

    mutating func combine(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { state = (state ^ UInt128(byte)) &* 0x0000_0000_0100_0000_0000_0000_0000_013b }
    }

    var description: String {
        let digits = String(state, radix: 16)
        return String(repeating: "0", count: 32 - digits.count) + digits
    }
}
