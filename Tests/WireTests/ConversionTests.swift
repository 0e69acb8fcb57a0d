import Address
import Mesh
import Protobuf
import TestMessages
import TestSupport
import Testing
import Wire

struct ConversionTests {
    @Test(arguments: 0..<200 as Range<UInt64>)
    func `models survive the wire`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let workload = random.workload()
        #expect(try Workload(reread(Istio_Workload_Workload(workload))) == workload)
        let service = random.service()
        #expect(try Service(reread(Istio_Workload_Service(service))) == service)
        let policy = random.policy()
        #expect(try Policy(reread(Istio_Security_Authorization(policy))) == policy)
        let pod = random.localPod()
        #expect(try LocalPod(reread(Warren_V1_LocalPod(pod))) == pod)
        let report = CaptureReport(
            uid: "u", state: random.pick([.captured, .refused, .removed]), reason: random.text())
        #expect(try CaptureReport(reread(Warren_V1_CaptureReport(report))) == report)
    }

    private func reread<M: Message>(_ message: M) throws -> M {
        try M(serializedBytes: message.serializedBytes())
    }

    @Test func `empty fields of a workload get istio's defaults`() throws {
        var wire = Istio_Workload_Workload()
        wire.uid = "u"
        let workload = try Workload(wire)
        #expect(workload.trustDomain == "cluster.local")
        #expect(workload.serviceAccount == "default")
        #expect(workload.clusterID == "Kubernetes")
        #expect(workload.capacity == 1)
        wire.capacity.value = 0
        #expect(try Workload(wire).capacity == 0)
    }

    @Test func `of a workload's extensions ours is read, and others' are passed over`() throws {
        var wire = Istio_Workload_Workload()
        wire.uid = "u"
        var other = Istio_Workload_Extension()
        other.name = "somebody's"
        other.config = Google_Protobuf_Any(message: Istio_Workload_Address())
        wire.extensions = [other]
        #expect(try !Workload(wire).encryptsOnSameNode)
        var own = Warren_V1_WorkloadExtension()
        own.encryptOnSameNode = true
        var carrier = Istio_Workload_Extension()
        carrier.config = Google_Protobuf_Any(message: own)
        wire.extensions.append(carrier)
        #expect(try Workload(wire).encryptsOnSameNode)
        // What cannot be read may have asked for encryption.
        wire.extensions[1].config.value = [0xff]
        #expect(throws: WireError.self) { try Workload(wire) }
    }

    @Test func `an IPv4-mapped address is the IPv4 address it stands for`() throws {
        let mapped = [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 10, 0, 0, 1]
        var wire = Istio_Workload_Workload()
        wire.uid = "u"
        wire.addresses = [mapped]
        #expect(try Workload(wire).addresses == [IPAddress("10.0.0.1")])

        var service = Istio_Workload_Service()
        (service.namespace, service.hostname) = ("a", "b")
        service.addresses = [.init()]
        service.addresses[0].address = mapped
        service.addresses[0].length = 104
        #expect(try Service(service).addresses[0].prefix == Prefix("10.0.0.0/8"))
        service.addresses[0].length = 95
        #expect(throws: WireError("addresses[0].length", "95 bits, expected 0 to 128")) {
            try Service(service)
        }
    }

    @Test func `an unknown kind of workload only matters to telemetry`() throws {
        var wire = Istio_Workload_Workload()
        wire.uid = "u"
        wire.workloadType = .UNRECOGNIZED(9)
        #expect(try Workload(wire).kind == .pod)
    }

    @Test func `Any gives back what it holds, and nothing else`() throws {
        var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
        request.typeURL = "t"
        let any = Google_Protobuf_Any(message: request)
        #expect(any.typeURL == "type.googleapis.com/envoy.service.discovery.v3.DeltaDiscoveryRequest")
        #expect(try Envoy_Service_Discovery_V3_DeltaDiscoveryRequest(unpackingAny: any) == request)
        #expect(throws: WireError.self) { try Istio_Workload_Address(unpackingAny: any) }
        var broken = any
        broken.value = [0xff]
        #expect(throws: WireError.self) {
            try Envoy_Service_Discovery_V3_DeltaDiscoveryRequest(unpackingAny: broken)
        }
        #expect(!Google_Protobuf_Any().isA(Istio_Workload_Address.self))
    }
}

/// What is refused, and how the refusal names it.
struct RefusalTests {
    private typealias WireWorkload = Istio_Workload_Workload
    private typealias WireService = Istio_Workload_Service
    private typealias WirePolicy = Istio_Security_Authorization

    private static func refusal<Wire>(
        _ wire: Wire, _ change: (inout Wire) -> Void, _ convert: (Wire) throws(WireError) -> some Any
    ) -> String {
        var wire = wire
        change(&wire)
        do throws(WireError) {
            _ = try convert(wire)
            return "accepted"
        } catch {
            return "\(error)"
        }
    }

    private static func workload(_ change: (inout WireWorkload) -> Void) -> String {
        var wire = WireWorkload()
        wire.uid = "u"
        return refusal(wire, change) { (wire) throws(WireError) in try Workload(wire) }
    }

    private static func service(_ change: (inout WireService) -> Void) -> String {
        var wire = WireService()
        (wire.namespace, wire.hostname) = ("shop", "web.shop.svc")
        return refusal(wire, change) { (wire) throws(WireError) in try Service(wire) }
    }

    private static func policy(_ change: (inout WirePolicy) -> Void) -> String {
        var wire = WirePolicy()
        (wire.namespace, wire.name) = ("shop", "p")
        return refusal(wire, change) { (wire) throws(WireError) in try Policy(wire) }
    }

    /// A change of the only match of a policy.
    private static func match(_ change: (inout Istio_Security_Match) -> Void) -> String {
        policy {
            $0.groups = [.init()]
            $0.groups[0].rules = [.init()]
            $0.groups[0].rules[0].matches = [.init()]
            change(&$0.groups[0].rules[0].matches[0])
        }
    }

    @Test func `workloads`() {
        #expect(Self.workload { _ in } == "accepted")
        #expect(Self.workload { $0.uid = "" } == "uid: missing")
        #expect(
            Self.workload { $0.addresses = [[1, 2, 3, 4], [1, 2, 3, 4, 5]] }
                == "addresses[1]: 5 bytes, expected 4 or 16")
        #expect(
            Self.workload { $0.tunnelProtocol = .legacyIstioMtls }
                == "tunnel_protocol: legacyIstioMtls (2) is not supported")
        #expect(
            Self.workload { $0.status = .UNRECOGNIZED(9) } == "status: UNRECOGNIZED(9) (9) is not supported")
        #expect(Self.workload { $0.networkMode = .UNRECOGNIZED(2) }.hasPrefix("network_mode: "))
        #expect(
            Self.workload { $0.serviceAccount = "a/sa/b" }
                == "service_account: \"a/sa/b\" cannot be part of an identity")
        #expect(Self.workload { $0.namespace = "a/ns" }.hasPrefix("namespace: "))
        #expect(Self.workload { $0.trustDomain = "td%2f" }.hasPrefix("trust_domain: "))
        #expect(Self.workload { $0.waypoint.hboneMtlsPort = 15_008 } == "waypoint.destination: missing")
        #expect(
            Self.workload {
                $0.waypoint.hostname.namespace = "a"
                $0.waypoint.hostname.hostname = "b"
            } == "waypoint.hbone_mtls_port: 0 is no port")
        #expect(
            Self.workload { $0.networkGateway.address.address = [1] }
                == "network_gateway.address.address: 1 bytes, expected 4 or 16")
        #expect(
            Self.workload {
                $0.networkGateway.address.address = [10, 0, 0, 0]
                $0.networkGateway.address.length = 8
            } == "network_gateway.address.length: a range where one address is expected")
        #expect(
            Self.workload { $0.applicationTunnel.port = 65_536 }
                == "application_tunnel.port: 65536 is no port, expected at most 65535")
        #expect(
            Self.workload { $0.applicationTunnel.protocol = .UNRECOGNIZED(2) }.hasPrefix(
                "application_tunnel.protocol"))
        #expect(
            Self.workload { $0.services["x"] = .init() } == "services[\"x\"]: \"x\" is not namespace/name")
        #expect(
            Self.workload {
                $0.services["a/b"] = .init()
                $0.services["a/b"]?.ports = [.init()]
            } == "services[\"a/b\"].ports[0].service_port: 0 is no port")
        #expect(
            Self.workload { $0.authorizationPolicies = ["a/b", "c"] }
                == "authorization_policies[1]: \"c\" is not namespace/name")
    }

    @Test func `services`() {
        #expect(Self.service { _ in } == "accepted")
        #expect(Self.service { $0.hostname = "" } == "hostname: missing")
        #expect(Self.service { $0.namespace = "a/b" } == "namespace: holds a slash")
        #expect(
            Self.service { $0.loadBalancing.routingPreference = [.region, .unspecifiedScope] }
                == "load_balancing.routing_preference[1]: unspecifiedScope (0) is not supported")
        #expect(Self.service { $0.loadBalancing.mode = .UNRECOGNIZED(4) }.hasPrefix("load_balancing.mode: "))
        #expect(
            Self.service { $0.loadBalancing.healthPolicy = .UNRECOGNIZED(4) }
                .hasPrefix("load_balancing.health_policy: "))
        #expect(Self.service { $0.visibility = .UNRECOGNIZED(4) }.hasPrefix("visibility: "))
        #expect(Self.service { $0.ipFamilies = .UNRECOGNIZED(4) }.hasPrefix("ip_families: "))
        #expect(
            Self.service {
                $0.addresses = [.init()]
                $0.addresses[0].address = [10, 0, 0, 0]
                $0.addresses[0].length = 33
            } == "addresses[0].length: 33 bits, expected 0 to 32")
        #expect(
            Self.service {
                $0.ports = [.init()]
                $0.ports[0].servicePort = 70_000
            } == "ports[0].service_port: 70000 is no port, expected at most 65535")
        #expect(
            Self.service { $0.weightedWaypoints = [.init()] }
                == "weighted_waypoints[0].destination.destination: missing")
    }

    @Test func `policies`() {
        #expect(Self.policy { _ in } == "accepted")
        #expect(Self.match { _ in } == "accepted")
        #expect(Self.policy { $0.name = "" } == "name: missing")
        #expect(Self.policy { $0.namespace = "" } == "namespace: missing")
        #expect(Self.policy { $0.scope = .UNRECOGNIZED(3) }.hasPrefix("scope: "))
        #expect(Self.policy { $0.action = .UNRECOGNIZED(2) }.hasPrefix("action: "))
        let path = "groups[0].rules[0].matches[0]"
        #expect(
            Self.match { $0.notPrincipals = [.init()] } == "\(path).not_principals[0].match_type: missing")
        #expect(
            Self.match {
                $0.sourceIps = [.init()]
                $0.sourceIps[0].address = [1, 2, 3]
            } == "\(path).source_ips[0].address: 3 bytes, expected 4 or 16")
        #expect(
            Self.match {
                $0.notDestinationIps = [.init()]
                $0.notDestinationIps[0].address = [1, 2, 3, 4]
                $0.notDestinationIps[0].length = .max
            } == "\(path).not_destination_ips[0].length: 4294967295 bits, expected 0 to 32")
        #expect(
            Self.match { $0.destinationPorts = [80, 65_616] }
                == "\(path).destination_ports[1]: 65616 is no port, expected at most 65535")
        #expect(
            Self.match { $0.serviceAccounts = [.init()] } == "\(path).service_accounts[0].namespace: missing")
        #expect(
            Self.match { $0.unknownFields.data = [0x70, 0x01] }
                == "\(path): holds a field that this version does not know")
    }

    @Test func `pods and reports`() {
        var pod = Warren_V1_LocalPod()
        (pod.uid, pod.namespace, pod.name) = ("u", "shop", "web")
        func refused(_ change: (inout Warren_V1_LocalPod) -> Void) -> String {
            Self.refusal(pod, change) { (wire) throws(WireError) in try LocalPod(wire) }
        }
        #expect(refused { _ in } == "accepted")
        #expect(refused { $0.uid = "" } == "uid: missing")
        #expect(refused { $0.addresses = [[]] } == "addresses[0]: 0 bytes, expected 4 or 16")
        #expect(
            refused { $0.networkNamespace = .init() }
                == "network_namespace.source: missing, or of a kind that is not supported")
        var report = Warren_V1_CaptureReport()
        report.uid = "u"
        #expect(throws: WireError("state", "unspecified (0) is not supported")) { try CaptureReport(report) }
    }

    @Test func `a refused policy is closed, not left out`() throws {
        var wire = WirePolicy()
        (wire.namespace, wire.name, wire.scope) = ("shop", "p", .global)
        let allow = try #require(Policy(closing: wire))
        #expect(allow == Policy(name: allow.name, scope: .global, action: .allow, rules: []))
        wire.action = .deny
        #expect(Policy(closing: wire)?.rules == [.init(clauses: [])])
        wire.action = .UNRECOGNIZED(7)
        wire.scope = .UNRECOGNIZED(7)
        #expect(Policy(closing: wire)?.action == .deny)
        #expect(Policy(closing: wire)?.scope == .namespace)
        wire.dryRun = true
        #expect(Policy(closing: wire) == nil)
    }
}

/// Resources that were valid until something bent them.
struct MutatedResourceTests {
    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `survives mutated resources`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<1_000 {
            var address = Istio_Workload_Address()
            if random.next() % 2 == 0 {
                address.workload = Istio_Workload_Workload(random.workload())
            } else {
                address.service = Istio_Workload_Service(random.service())
            }
            let inputs = [
                address.serializedBytes(), Istio_Security_Authorization(random.policy()).serializedBytes(),
            ]
            for _ in 0..<50 {
                var bytes = random.pick(inputs)
                guard !bytes.isEmpty else { continue }
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(
                        truncatingIfNeeded: random.next())
                }
                if let address = try? Istio_Workload_Address(serializedBytes: bytes) {
                    _ = try? Workload(address.workload)
                    _ = try? Service(address.service)
                }
                if let policy = try? Istio_Security_Authorization(serializedBytes: bytes) {
                    _ = try? Policy(policy)
                    _ = Policy(closing: policy)
                }
                _ = try? LocalPod(Warren_V1_LocalPod(serializedBytes: bytes))
            }
        }
    }
}
