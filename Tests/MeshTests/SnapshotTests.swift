import Address
import Mesh
import Testing

struct SnapshotTests {
    static func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    static func key(_ text: String, network: String = "") throws -> NetworkAddress {
        NetworkAddress(network: network, address: try address(text))
    }

    static func service(
        _ name: String, in namespace: String, at prefix: String, canonical: Bool = false,
        visibility: Service.Visibility = .everywhere
    ) throws -> Service {
        Service(
            name: name, namespace: namespace, hostname: "\(name).example",
            addresses: [.init(network: "", prefix: try #require(Prefix(prefix)))], isCanonical: canonical,
            visibility: visibility)
    }

    @Test func `an address claimed by several means the pod, then the one in the mesh`() throws {
        var builder = SnapshotBuilder(node: "n")
        let ip = try Self.address("10.0.0.1")
        builder.insert(
            Workload(
                uid: "c/networking.istio.io/WorkloadEntry/a/x", name: "x", namespace: "a", addresses: [ip],
                tunnelProtocol: .hbone))
        builder.insert(Workload(uid: "c//Pod/a/p", name: "p", namespace: "a", addresses: [ip]))
        #expect(try builder.snapshot().workload(at: Self.key("10.0.0.1"))?.workload.name == "p")
        builder.insert(
            Workload(uid: "c//Pod/a/q", name: "q", namespace: "a", addresses: [ip], tunnelProtocol: .hbone))
        #expect(try builder.snapshot().workload(at: Self.key("10.0.0.1"))?.workload.name == "q")
        #expect(try builder.snapshot().workload(at: Self.key("10.0.0.1", network: "other")) == nil)
    }

    @Test func `workloads in the host's network are not found by address`() throws {
        var builder = SnapshotBuilder(node: "")
        builder.insert(
            Workload(
                uid: "u", name: "x", namespace: "a", addresses: [try Self.address("10.0.0.1")],
                networkMode: .hostNetwork))
        #expect(try builder.snapshot().workload(at: Self.key("10.0.0.1")) == nil)
    }

    @Test
    func `a virtual address means the client's own service, then the canonical one, and never a hidden one`()
        throws
    {
        var builder = SnapshotBuilder(node: "")
        builder.insert(try Self.service("x", in: "a", at: "10.1.0.1"))
        builder.insert(try Self.service("x", in: "b", at: "10.1.0.1", canonical: true))
        builder.insert(try Self.service("x", in: "c", at: "10.1.0.1", visibility: .namespace))
        let snapshot = builder.snapshot()
        let key = try Self.key("10.1.0.1")
        #expect(snapshot.service(at: key, from: "a")?.service.namespace == "a")
        #expect(snapshot.service(at: key, from: "z")?.service.namespace == "b")
        #expect(snapshot.service(at: key, from: "c")?.service.namespace == "c")
        builder.removeAddress("b/x.example")
        builder.removeAddress("a/x.example")
        #expect(builder.snapshot().service(at: key, from: "z") == nil)
    }

    @Test func `exact addresses go before ranges, and longer ranges before shorter`() throws {
        var builder = SnapshotBuilder(node: "")
        builder.insert(try Self.service("wide", in: "a", at: "10.1.0.0/16"))
        builder.insert(try Self.service("narrow", in: "a", at: "10.1.2.0/24"))
        builder.insert(try Self.service("exact", in: "a", at: "10.1.2.3"))
        builder.insert(try Self.service("own", in: "z", at: "10.1.0.0/16"))
        let snapshot = builder.snapshot()
        #expect(try snapshot.service(at: Self.key("10.1.2.3"), from: "b")?.service.name == "exact")
        #expect(try snapshot.service(at: Self.key("10.1.2.4"), from: "b")?.service.name == "narrow")
        #expect(try snapshot.service(at: Self.key("10.1.3.4"), from: "a")?.service.name == "wide")
        #expect(try snapshot.service(at: Self.key("10.1.2.4"), from: "z")?.service.name == "own")
        #expect(try snapshot.service(at: Self.key("10.2.0.1"), from: "a") == nil)
    }

    @Test func `unhealthy endpoints count only where the service says so`() throws {
        var builder = SnapshotBuilder(node: "")
        var service = try Self.service("x", in: "a", at: "10.1.0.1")
        builder.insert(service)
        builder.insert(
            Workload(
                uid: "u", name: "p", namespace: "a", addresses: [try Self.address("10.0.0.1")],
                services: [service.key: [80: 8080]], status: .unhealthy))
        #expect(builder.snapshot().service(service.key)?.endpoints.isEmpty == true)
        service.loadBalancing.allowsUnhealthy = true
        builder.insert(service)
        #expect(builder.snapshot().service(service.key)?.endpoints.count == 1)
    }

    @Test func `policies apply by scope and by name, and a named one that is absent is known to be`() {
        var builder = SnapshotBuilder(node: "n")
        func policy(_ namespace: String, _ name: String, _ scope: Policy.Scope) -> Policy {
            Policy(
                name: NamespacedName(namespace: namespace, name: name), scope: scope, action: .deny, rules: []
            )
        }
        builder.insert(policy("root", "all", .global))
        builder.insert(policy("a", "here", .namespace))
        builder.insert(policy("b", "elsewhere", .namespace))
        builder.insert(policy("a", "chosen", .workloadSelector))
        builder.insert(policy("a", "other", .workloadSelector))
        let names = ["chosen", "absent", "here"].map { NamespacedName(namespace: "a", name: $0) }
        let workload = Workload(uid: "u", name: "p", namespace: "a", node: "n", authorizationPolicies: names)
        builder.insert(workload)
        let set = builder.snapshot().policySet(for: workload)
        #expect(set.deny.policies.map(\.name.description) == ["root/all", "a/here", "a/chosen"])
        #expect(set.missing == [NamespacedName(namespace: "a", name: "absent")])
    }

    @Test func `a snapshot does not change when its builder goes on`() throws {
        var builder = SnapshotBuilder(node: "n")
        builder.insert(Workload(uid: "u", name: "p", namespace: "a", node: "n"))
        let before = builder.snapshot()
        builder.removeAddress("u")
        let after = builder.snapshot()
        #expect(before.localWorkload(namespace: "a", name: "p") != nil)
        #expect(after.localWorkload(namespace: "a", name: "p") == nil)
        #expect(after.version > before.version)
    }
}
