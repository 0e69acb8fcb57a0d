import Address
import Mesh
import Testing

/// A small mesh on two nodes: client and server of one service, one workload outside of the mesh.
struct Fixture {
    var builder = SnapshotBuilder(node: "node-a")

    init() {
        builder.insert(
            Workload(
                uid: "c//Pod/shop/client", name: "client", namespace: "shop",
                addresses: [address("10.0.0.1")],
                tunnelProtocol: .hbone, serviceAccount: "client", node: "node-a", canonicalName: "client",
                workloadName: "client"))
        builder.insert(
            Workload(
                uid: "c//Pod/shop/server", name: "server", namespace: "shop",
                addresses: [address("10.0.1.1")],
                tunnelProtocol: .hbone, serviceAccount: "server", node: "node-b", canonicalName: "server",
                workloadName: "server", services: [Fixture.service: [80: 8080]]))
        builder.insert(
            Workload(
                uid: "c//Pod/shop/old", name: "old", namespace: "shop", addresses: [address("10.0.2.1")],
                node: "node-b"))
        builder.insert(
            Service(
                name: "server", namespace: "shop", hostname: Fixture.service.name,
                addresses: [
                    Service.VirtualAddress(
                        network: "", prefix: Prefix(address("10.96.0.1")))
                ],
                ports: [Service.Port(servicePort: 80, targetPort: 8080)]))
    }

    static let service = NamespacedName(namespace: "shop", name: "server.shop.svc.cluster.local")

    mutating func allow(only account: String) {
        var match = Policy.Match()
        match.principals = [.exact("cluster.local/ns/shop/sa/\(account)")]
        builder.insert(
            Policy(
                name: NamespacedName(namespace: "shop", name: "only-\(account)"), scope: .namespace,
                action: .allow, rules: [Policy.Rule(clauses: [Policy.Clause(matches: [match])])]))
    }
}

func address(_ text: String) -> IPAddress {
    IPAddress(text) ?? .anyIPv4
}

func socketAddress(_ text: String) -> SocketAddress {
    SocketAddress(text) ?? SocketAddress(.anyIPv4, 0)
}
