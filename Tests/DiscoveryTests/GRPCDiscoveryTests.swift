import Address
import Discovery
import EventLoop
import GRPC
import Linux
import Mesh
import Metrics
import TLS
import Testing
import Transport
import Wire

/// A control component over TLS and gRPC: issues what is asked for, sends one workload, and notes who came with what.
private final class TestControl {
    final class Stream: GRPCServerHandler {
        let control: TestControl

        init(_ control: TestControl) {
            self.control = control
        }

        func received(_ message: [UInt8], on call: GRPCServerCall) {
            do {
                let request = try DeltaClient.Request(serializedBytes: message)
                control.requests.append(request)
                guard request.responseNonce.isEmpty, request.hasNode else { return }
                let type = try #require(ResourceType.allCases.first { $0.typeURL == request.typeURL })
                let resources = type == .addresses ? [Served.workload("a", version: "v1")] : []
                call.send(
                    Served.response(type, nonce: request.typeURL, resources).serializedBytes())
            } catch {
                Issue.record("\(error)")
            }
        }
    }

    let authority: CertificateAuthority
    let address: SocketAddress
    var requests: [DeltaClient.Request] = []
    /// Of every call: the bearer token and the name in the client certificate.
    var callers: [(path: String, token: String?, peer: String?)] = []
    private(set) var connectionCount = 0
    var acceptsToken = true
    private let server: GRPCServer
    private let context: TLSContext
    private var listener: Listener?

    /// - Parameter clientAuthority: who issues what callers prove themselves with; nil for `authority`.
    init(
        on loop: EventLoop, authority: CertificateAuthority, clientAuthority: CertificateAuthority? = nil,
        at address: SocketAddress
    ) throws {
        self.authority = authority
        let key = try PrivateKey.generate()
        let leaf = try authority.sign(
            key.publicKey, uri: nil, hosts: ["127.0.0.1", "\(address.address)"], validity: 3_600)
        context = try TLSContext(
            .controlServer(
                CertificateBundle(key: key, chain: [leaf]), clientRoots: (clientAuthority ?? authority).roots)
        )
        server = GRPCServer(on: loop)
        let socket = try Socket.listen(on: address)
        self.address = socket.localAddress ?? address
        server.register("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources") {
            [unowned self] call in
            note(call)
            if !isKnown(call) { call.finish(GRPCStatus(.unauthenticated, "who are you?")) }
            return Stream(self)
        }
        server.registerUnary(
            "/istio.v1.auth.IstioCertificateService/CreateCertificate",
            Istio_V1_Auth_IstioCertificateRequest.self
        ) {
            [unowned self] call, request, reply in
            note(call)
            reply(issue(request, to: call))
        }
        listener = try Listener(on: loop, socket) { [unowned self] accepted in
            connectionCount += 1
            do {
                try server.accept(accepted.socket, tls: TLSSession(context))
            } catch {
                Issue.record("\(error)")
            }
        }
    }

    private func note(_ call: GRPCServerCall) {
        callers.append((call.path, call.metadata["authorization"], call.peer?.chain.first?.uriNames.first))
    }

    static let node = "spiffe://cluster.local/warren/node/n1"

    private func isKnown(_ call: GRPCServerCall) -> Bool {
        call.peer?.chain.first?.uriNames == [Self.node]
            || acceptsToken && call.metadata["authorization"] == "Bearer join-n1"
    }

    private func issue(
        _ request: Istio_V1_Auth_IstioCertificateRequest, to call: GRPCServerCall
    ) -> Result<Istio_V1_Auth_IstioCertificateResponse, GRPCStatus> {
        guard isKnown(call) else { return .failure(GRPCStatus(.unauthenticated, "who are you?")) }
        do {
            let csr = try CertificateRequest(pem: request.csr)
            let leaf = try authority.sign(
                csr.publicKey, uri: request.metadata.text("ImpersonatedIdentity") ?? Self.node,
                validity: 3_600)
            var response = Istio_V1_Auth_IstioCertificateResponse()
            response.certChain = [leaf.pem] + authority.roots.map(\.pem)
            return .success(response)
        } catch {
            return .failure(GRPCStatus(.internal, "\(error)"))
        }
    }

    func close() {
        listener?.close()
        listener = nil
        server.close()
    }
}

struct GRPCDiscoveryTests {
    private let loop: EventLoop
    private let authority: CertificateAuthority
    private let alice = DiscoveryBench.alice

    init() throws {
        loop = try EventLoop(name: "test", registry: Registry())
        authority = try CertificateAuthority.createRoot(organization: "test")
    }

    private func control(at address: SocketAddress? = nil) throws -> TestControl {
        let any = try #require(SocketAddress("127.0.0.1:0"))
        return try TestControl(on: loop, authority: authority, at: address ?? any)
    }

    /// A loopback address of its own, for a control component that goes and comes back: nobody else's connection takes the port meanwhile.
    private func ownAddress() throws -> SocketAddress {
        let bytes = (0..<2).map { _ in UInt8.random(in: 1...254) }
        return try #require(SocketAddress("127.99.\(bytes[0]).\(bytes[1]):0"))
    }

    private func discovery(
        of control: TestControl, roots: [Certificate]? = nil, token: String = "join-n1",
        _ change: (inout DiscoveryConfiguration) -> Void = { _ in }
    ) throws -> NodeDiscovery {
        let pem = (roots ?? authority.roots).map(\.pem).joined()
        var configuration = DiscoveryConfiguration(
            node: NodeDescription(name: "n1"), control: control.address.description, roots: .literal(pem),
            token: .literal(token))
        change(&configuration)
        return try #require(NodeDiscovery(loop: loop, configuration, registry: Registry()))
    }

    private func wait(until condition: () -> Bool) -> Bool {
        let deadline = MonotonicTime.now() + .seconds(60)
        while !condition() {
            guard MonotonicTime.now() < deadline else { return false }
            loop.turn(waitingAtMost: .milliseconds(20))
        }
        return true
    }

    @Test func `joins by its token, then proves itself by the certificate that it got`() throws {
        let control = try control()
        let discovery = try discovery(of: control)
        var snapshot: Snapshot?
        var certificates: [Identity: CertificateState] = [:]
        discovery.onSnapshot = { snapshot = $0 }
        discovery.onCertificates = { certificates = $0 }
        discovery.want([alice])
        discovery.start()
        #expect(wait { discovery.hasFirstState && certificates[alice] != nil })
        #expect(snapshot?.allWorkloads.map(\.name) == ["a"])
        guard case .available(let bundle, _)? = certificates[alice] else {
            Issue.record("\(certificates)")
            return
        }
        #expect(bundle.leaf.identity == alice)

        let node = TestControl.node
        #expect(control.callers.map(\.token) == ["Bearer join-n1", nil, nil])
        #expect(control.callers.map(\.peer) == [nil, node, node])
        #expect(wait { control.requests.count { !$0.responseNonce.isEmpty } == 3 })
        discovery.stop()
        control.close()
    }

    @Test func `finds a control component that comes back, and tells it what it has`() throws {
        let first = try control(at: ownAddress())
        let discovery = try discovery(of: first)
        discovery.start()
        #expect(wait { discovery.hasFirstState })
        first.close()
        #expect(wait { !discovery.isConnected })

        let second = try control(at: first.address)
        #expect(wait { second.requests.contains { $0.initialResourceVersions == ["k//Pod/shop/a": "v1"] } })
        #expect(wait { discovery.isConnected })
        discovery.stop()
        second.close()
    }

    /// A port where connections are made and lost, until so many were.
    private func refuse(_ count: Int, at address: SocketAddress) throws -> Bool {
        var refused = 0
        let listener = try Listener(on: loop, Socket.listen(on: address)) { _ in refused += 1 }
        defer { listener.close() }
        return wait { refused >= count }
    }

    @Test
    func `an expired token does no harm to a node that has a certificate, however long control was away`()
        throws
    {
        for refusals in 3...6 {
            let first = try control(at: ownAddress())
            let discovery = try discovery(of: first)
            discovery.start()
            #expect(wait { discovery.hasFirstState })
            first.close()
            #expect(try refuse(refusals, at: first.address))

            let second = try control(at: first.address)
            second.acceptsToken = false
            #expect(wait { discovery.isConnected })
            #expect(second.callers.last?.peer == TestControl.node)
            discovery.stop()
            second.close()
        }
    }

    @Test func `goes by its token again when its certificate is no longer taken`() throws {
        let first = try control(at: ownAddress())
        let discovery = try discovery(of: first)
        discovery.start()
        #expect(wait { discovery.hasFirstState })
        first.close()
        #expect(wait { !discovery.isConnected })

        // Verified by the same root, but of another authority for its clients.
        let other = try CertificateAuthority.createRoot(organization: "other")
        let second = try TestControl(
            on: loop, authority: authority, clientAuthority: other, at: first.address)
        #expect(wait { discovery.isConnected })
        #expect(second.callers.last?.token == "Bearer join-n1")
        discovery.stop()
        second.close()
    }

    @Test func `under istiod the token goes with every call`() throws {
        let control = try control()
        let discovery = try discovery(of: control) {
            $0.usesNodeCertificate = false
            $0.subscribesToLocalPods = false
        }
        discovery.want([alice])
        discovery.start()
        #expect(wait { discovery.hasFirstState && control.callers.count == 2 })
        #expect(control.callers.allSatisfy { $0.token == "Bearer join-n1" && $0.peer == nil })
        discovery.stop()
        control.close()
    }

    @Test func `sends nothing to a server whose certificate it cannot verify`() throws {
        let control = try control()
        let stranger = try CertificateAuthority.createRoot(organization: "stranger")
        let discovery = try discovery(of: control, roots: stranger.roots)
        discovery.start()
        #expect(wait { control.connectionCount >= 3 })
        #expect(control.callers.isEmpty && !discovery.isConnected)
        discovery.stop()
        control.close()
    }

    @Test func `sends nothing in the clear when there are no roots`() throws {
        let control = try control()
        let discovery = try discovery(of: control) { $0.roots = .file("/nonexistent/root-cert.pem") }
        var failure: CertificateUnavailable?
        discovery.start()
        discovery.certificate(for: alice, patience: .milliseconds(50)) {
            if case .failure(let error) = $0 { failure = error }
        }
        #expect(wait { failure != nil })
        #expect(control.connectionCount == 0)
        discovery.stop()
        control.close()
    }

    @Test func `a refused token is a reason, not a wait`() throws {
        let control = try control()
        let discovery = try discovery(of: control, token: "stolen") { $0.usesNodeCertificate = false }
        var failure: CertificateUnavailable?
        discovery.start()
        discovery.certificate(for: alice) { if case .failure(let error) = $0 { failure = error } }
        #expect(wait { failure != nil })
        #expect(failure?.reason == "unauthenticated: who are you?")
        discovery.stop()
        control.close()
    }

    @Test func `looks a host name up`() throws {
        let control = try control()
        let discovery = try discovery(of: control) {
            $0.control = "localhost:\(control.address.port)"
            $0.serverName = "127.0.0.1"
        }
        discovery.start()
        // The resolver may give ::1 first, where nobody listens: the next attempt takes the other.
        #expect(wait { discovery.hasFirstState })
        discovery.stop()
        control.close()
    }

    @Test func `takes host and port only as an address`() throws {
        let control = try control()
        for bad in ["", "host", "host:", "host:0", "host:70000", "a:b:c", ":15012"] {
            let configuration = DiscoveryConfiguration(
                node: NodeDescription(name: "n1"), control: bad, roots: .literal(""))
            #expect(NodeDiscovery(loop: loop, configuration, registry: Registry()) == nil, "\(bad)")
        }
        control.close()
    }
}
