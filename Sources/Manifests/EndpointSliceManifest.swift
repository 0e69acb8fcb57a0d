import Address
import Documents

/// `discovery.k8s.io/v1` EndpointSlice: endpoints of a service that no selector finds.
public struct EndpointSliceManifest: Hashable, Sendable {
    private enum AddressType: String, CaseIterable {
        case ipv4 = "IPv4"
        case ipv6 = "IPv6"
        case fqdn = "FQDN"
    }

    public struct Endpoint: Hashable, Sendable {
        public var addresses: [IPAddress]
        /// Absent counts as ready.
        public var isReady: Bool
        /// The pod behind it, if it is one.
        public var podName: String?
        public var nodeName: String
    }

    public struct Port: Hashable, Sendable {
        public var name: String
        public var port: UInt16
        public var transport: TransportProtocol
    }

    public var meta: ObjectMeta
    /// The service it belongs to: label `kubernetes.io/service-name`.
    public var serviceName: String
    public var endpoints: [Endpoint]
    public var ports: [Port]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        self.meta = meta
        serviceName = meta.labels["kubernetes.io/service-name"] ?? ""
        top.ignore("endpoints", "ports")
        guard let type = top.required("addressType")?.choice(of: AddressType.self) else { return nil }
        if serviceName.isEmpty {
            top.cursor.warn("without the label kubernetes.io/service-name it belongs to no service")
        }
        if type == .fqdn {
            top["addressType"]?.warn("endpoints by name are not carried: the slice is ignored")
            endpoints = []
        } else {
            endpoints = top["endpoints"]?.list { Endpoint($0, isIPv4: type == .ipv4) } ?? []
        }
        ports =
            top["ports"]?.list { cursor in
                // A port without a number stands for all of them, which no endpoint here can use.
                guard let fields = cursor.fields(), let port = fields["port"]?.port() else { return nil }
                return Port(
                    name: fields["name"]?.string() ?? "", port: port,
                    transport: fields["protocol"]?.choice(of: TransportProtocol.self) ?? .tcp)
            } ?? []
    }
}

extension EndpointSliceManifest.Endpoint {
    fileprivate init?(_ cursor: Cursor, isIPv4: Bool) {
        guard let fields = cursor.fields() else { return nil }
        addresses =
            fields.required("addresses")?.list { cursor in
                guard let text = cursor.string() else { return nil }
                guard let address = IPAddress(text), address.isIPv4 == isIPv4, !address.isUnspecified,
                    !address.isMulticast, !address.isLoopback, !address.isLinkLocal
                else {
                    cursor.error(
                        "\(quoted(text)) is no \(isIPv4 ? "IPv4" : "IPv6") address that an endpoint may have")
                    return nil
                }
                return address
            } ?? []
        isReady = fields["conditions"]?.fields()?["ready"]?.boolean() ?? true
        nodeName = fields["nodeName"]?.string() ?? ""
        if let target = fields["targetRef"]?.fields(), target["kind"]?.string() == "Pod" {
            podName = target["name"]?.nonEmptyString()
        }
    }
}
