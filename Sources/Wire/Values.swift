import Address
import Mesh
import Protobuf

// Values that several resources share. Every conversion from the wire refuses what it does not understand: a rule or an
// address that is dropped in silence widens what it was part of.

extension IPAddress {
    /// 4 or 16 bytes; an IPv4-mapped address is the IPv4 address it stands for.
    init(wire bytes: [UInt8]) throws(WireError) {
        guard let address = IPAddress(bytes: bytes) else {
            throw WireError("", "\(bytes.count) bytes, expected 4 or 16")
        }
        self = address.canonical
    }
}

extension Prefix {
    init(wire bytes: [UInt8], length: UInt32?) throws(WireError) {
        let address = try within("address") { () throws(WireError) in try IPAddress(wire: bytes) }
        // The length belongs to the address as it was written.
        let unused = bytes.count * 8 - address.bitCount
        let length = length.map { Int($0) - unused } ?? address.bitCount
        guard let prefix = Prefix(address, length: length) else {
            throw WireError("length", "\(length + unused) bits, expected 0 to \(bytes.count * 8)")
        }
        self = prefix
    }
}

/// A port other than 0.
func port(_ number: UInt32, _ field: String) throws(WireError) -> UInt16 {
    guard let port = try optionalPort(number, field) else { throw WireError(field, "0 is no port") }
    return port
}

/// A port, or nil for 0.
func optionalPort(_ number: UInt32, _ field: String) throws(WireError) -> UInt16? {
    guard let port = UInt16(exactly: number) else {
        throw WireError(field, "\(number) is no port, expected at most 65535")
    }
    return port == 0 ? nil : port
}

/// A reference `namespace/name`.
func namespacedName(_ text: String) throws(WireError) -> NamespacedName {
    guard let name = NamespacedName(text) else { throw WireError("", "\"\(text)\" is not namespace/name") }
    return name
}

/// `namespace` and `name` of a resource that is known by both.
func namespacedName(
    namespace: String, name: String, nameField: String
) throws(WireError) -> NamespacedName {
    for (field, value) in [("namespace", namespace), (nameField, name)] {
        guard !value.isEmpty else { throw WireError(field, "missing") }
        guard !value.utf8.contains(UInt8(ascii: "/")) else { throw WireError(field, "holds a slash") }
    }
    return NamespacedName(namespace: namespace, name: name)
}

/// A part of a SPIFFE id. Two workloads must not come to one identity by a slash in a name.
func identityPart(_ text: String, _ field: String) throws(WireError) -> String {
    let isValid = text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
    guard isValid else { throw WireError(field, "\"\(text)\" cannot be part of an identity") }
    return text
}

/// An enum of the wire as one of the model, by a table that both directions use.
struct EnumTable<Wire: Enum, Model: Equatable & Sendable>: Sendable {
    private let pairs: [(wire: Wire, model: Model)]

    init(_ pairs: KeyValuePairs<Wire, Model>) {
        self.pairs = pairs.map { ($0.key, $0.value) }
    }

    func model(_ value: Wire, _ field: @autoclosure () -> String) throws(WireError) -> Model {
        guard let pair = pairs.first(where: { $0.wire == value }) else {
            throw WireError(field(), "\(value) (\(value.rawValue)) is not supported")
        }
        return pair.model
    }

    /// For enums that change nothing but what is displayed: an unknown value is the default.
    func model(_ value: Wire, or fallback: Model) -> Model {
        pairs.first { $0.wire == value }?.model ?? fallback
    }

    func wire(_ value: Model) -> Wire {
        pairs.first { $0.model == value }?.wire ?? Wire()
    }
}

extension NetworkAddress {
    init(_ wire: Istio_Workload_NetworkAddress) throws(WireError) {
        let prefix = try Prefix(wire: wire.address, length: wire.hasLength ? wire.length : nil)
        guard prefix.length == prefix.address.bitCount else {
            throw WireError("length", "a range where one address is expected")
        }
        self.init(network: wire.network, address: prefix.address)
    }
}

extension Istio_Workload_NetworkAddress {
    init(_ address: NetworkAddress) {
        self.init()
        network = address.network
        self.address = address.address.bytes
    }
}

extension GatewayAddress {
    public init(_ wire: Istio_Workload_GatewayAddress) throws(WireError) {
        let destination: Destination
        switch wire.destination {
        case .hostname(let name):
            destination = try within("hostname") { () throws(WireError) in
                .hostname(
                    try namespacedName(namespace: name.namespace, name: name.hostname, nameField: "hostname"))
            }
        case .address(let address):
            destination = try within("address") { () throws(WireError) in
                .address(try NetworkAddress(address))
            }
        case nil:
            throw WireError("destination", "missing")
        }
        self.init(destination: destination, hbonePort: try port(wire.hboneMtlsPort, "hbone_mtls_port"))
    }
}

extension Istio_Workload_GatewayAddress {
    public init(_ gateway: GatewayAddress) {
        self.init()
        switch gateway.destination {
        case .hostname(let name):
            hostname.namespace = name.namespace
            hostname.hostname = name.name
        case .address(let networkAddress):
            address = Istio_Workload_NetworkAddress(networkAddress)
        }
        hboneMtlsPort = UInt32(gateway.hbonePort)
    }
}
