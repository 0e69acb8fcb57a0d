import Address
import Decision
import Mesh
import Testing

/// Rows follow ztunnel.md §1.6 (HBONE) and §1.7 (plaintext).
struct InboundTests {
    static let peer = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "alice")

    static func world() throws -> (Snapshot, WorkloadEntry) {
        var builder = SnapshotBuilder(node: "n")
        let service = Service(
            name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local",
            ports: [
                .init(servicePort: 80, targetPort: 8080), .init(servicePort: 81, targetPort: 0),
                .init(servicePort: 82, targetPort: 15008),
            ])
        builder.insert(service)
        builder.insert(
            Workload(
                uid: "c//Pod/shop/web", name: "web", namespace: "shop",
                addresses: [try #require(IPAddress("10.0.0.2")), try #require(IPAddress("fd00::2"))],
                tunnelProtocol: .hbone, node: "n", services: [service.key: [81: 8181]]))
        let snapshot = builder.snapshot()
        return (snapshot, try #require(snapshot.workload(uid: "c//Pod/shop/web")))
    }

    static func plan(_ authority: String, local: String = "10.0.0.2") throws -> InboundPlan {
        let (snapshot, workload) = try world()
        var trace = Trace.recording
        let request = InboundRequest(
            authority: authority, peer: peer, source: try #require(IPAddress("::ffff:10.0.0.1")),
            local: try #require(IPAddress(local)))
        return inbound(request, workload: workload, snapshot: snapshot, trace: &trace)
    }

    static let rows: [(authority: String, local: String, port: UInt16?, status: Int?)] = [
        ("10.0.0.2:8080", "10.0.0.2", 8080, nil),
        ("10.0.0.2:8080", "::ffff:10.0.0.2", 8080, nil),
        ("[fd00::2]:9", "fd00::2", 9, nil),
        ("10.0.0.3:8080", "10.0.0.2", nil, 400),
        ("127.0.0.1:8080", "10.0.0.2", nil, 400),
        ("169.254.169.254:80", "10.0.0.2", nil, 400),
        ("[fd00::2]:9", "10.0.0.2", nil, 400),
        ("10.0.0.2", "10.0.0.2", nil, 400),
        ("10.0.0.2:", "10.0.0.2", nil, 400),
        ("10.0.0.2:0", "10.0.0.2", nil, 400),
        ("10.0.0.2:70000", "10.0.0.2", nil, 400),
        ("user@10.0.0.2:80", "10.0.0.2", nil, 400),
        ("", "10.0.0.2", nil, 400),
        ("1.2.3:80", "10.0.0.2", nil, 400),
        ("web.shop.svc.cluster.local:80", "10.0.0.2", 8080, nil),
        ("WEB.shop.svc.cluster.local:80", "10.0.0.2", 8080, nil),
        ("web.shop.svc.cluster.local:81", "10.0.0.2", 8181, nil),
        ("web.shop.svc.cluster.local:99", "10.0.0.2", nil, 503),
        ("other.shop.svc.cluster.local:80", "10.0.0.2", nil, 503),
        ("10.0.0.2:15008", "10.0.0.2", nil, 503),
        ("10.0.0.2:15001", "10.0.0.2", nil, 503),
        ("10.0.0.2:15006", "10.0.0.2", nil, 503),
        ("web.shop.svc.cluster.local:82", "10.0.0.2", nil, 503),
    ]

    @Test(arguments: rows)
    func `answers a CONNECT`(row: (authority: String, local: String, port: UInt16?, status: Int?)) throws {
        switch try Self.plan(row.authority, local: row.local) {
        case .connect(let address, let connection, _):
            #expect(address.port == row.port)
            #expect(address.address == IPAddress(row.local)?.canonical)
            #expect(connection.source == IPAddress("10.0.0.1"))
        case .refuse(let reason):
            #expect(reason.hboneStatus == row.status, "\(reason)")
        }
    }

    @Test func `plaintext meets the same policies, without an identity`() throws {
        let (snapshot, workload) = try Self.world()
        var trace = Trace.off
        let source = try #require(IPAddress("10.9.9.9"))
        func plan(_ destination: String) throws -> InboundPlan {
            inboundPlaintext(
                source: source, destination: try #require(SocketAddress(destination)), workload: workload,
                snapshot: snapshot, trace: &trace)
        }
        guard case .connect(let to, let connection, _) = try plan("10.0.0.2:8080") else {
            Issue.record("permissive plaintext must pass")
            return
        }
        #expect(to == SocketAddress("10.0.0.2:8080") && connection.peer == nil)
        for port in proxyPorts {
            #expect(try plan("10.0.0.2:\(port)") == .refuse(.recursiveCall))
        }
        guard case .refuse(.destinationMismatch) = try plan("10.0.0.77:80") else {
            Issue.record("another address must be refused")
            return
        }
    }

    @Test func `strict refuses plaintext and admits a peer with an identity`() throws {
        var presence = Policy.Match()
        presence.notPrincipals = [.presence]
        let strict = AuthorizationTests.policy("istio_converted_static_strict", .deny, presence)
        #expect(try !AuthorizationTests.decide(nil, [strict]).isAllowed)
        #expect(try AuthorizationTests.decide(Self.peer, [strict]).isAllowed)
    }
}
