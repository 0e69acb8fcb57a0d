import Discovery
import EventLoop
import GRPC
import Linux
import Mesh
import Metrics
import Protobuf
import TLS
import Testing
import Wire

/// A control component in the test's hand: streams and certificate requests come to it, answers are given by calls.
final class FakeControl: ControlChannel {
    final class Stream: ControlStream {
        let listener: any ControlStreamListener
        var requests: [DeltaClient.Request] = []
        var isCancelled = false

        init(_ listener: any ControlStreamListener) {
            self.listener = listener
        }

        func send(_ message: [UInt8]) {
            do {
                requests.append(try DeltaClient.Request(serializedBytes: message))
            } catch {
                Issue.record("\(error)")
            }
        }

        func cancel() { isCancelled = true }

        func answer(_ response: Response) { listener.streamReceived(response.serializedBytes()) }
    }

    struct CertificateRequest {
        let wire: Istio_V1_Auth_IstioCertificateRequest
        let completion: (Result<[UInt8], GRPCStatus>) -> Void

        /// Nil for the node's own.
        var impersonated: String? { wire.metadata.text("ImpersonatedIdentity") }
    }

    private(set) var streams: [Stream] = []
    var certificateRequests: [CertificateRequest] = []
    private(set) var bundles: [CertificateBundle] = []
    private(set) var isClosed = false
    var onConnected: (() -> Void)?
    let authority: CertificateAuthority
    /// Signs whatever comes, at once.
    var signs = false

    init() throws {
        authority = try CertificateAuthority.createRoot(organization: "test", validity: 86_400 * 30)
    }

    func openStream(_ listener: any ControlStreamListener) -> any ControlStream {
        let stream = Stream(listener)
        streams.append(stream)
        return stream
    }

    func createCertificate(
        _ request: [UInt8], completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) {
        do {
            let wire = try Istio_V1_Auth_IstioCertificateRequest(serializedBytes: request)
            let request = CertificateRequest(wire: wire, completion: completion)
            if signs { try sign(request) } else { certificateRequests.append(request) }
        } catch {
            Issue.record("\(error)")
        }
    }

    func renew(_ bundle: CertificateBundle) { bundles.append(bundle) }
    func close() { isClosed = true }

    /// Answers a request with a certificate.
    ///
    /// - Parameter uri: nil for what was asked for.
    func sign(_ request: CertificateRequest, uri: String? = nil, life: Int64 = 86_400) throws {
        let csr = try TLS.CertificateRequest(pem: request.wire.csr)
        let leaf = try authority.sign(
            csr.publicKey, uri: uri ?? request.impersonated ?? "spiffe://cluster.local/warren/node/n1",
            validity: life, usages: [.serverAuth, .clientAuth])
        var response = Istio_V1_Auth_IstioCertificateResponse()
        response.certChain = [leaf.pem] + authority.roots.map(\.pem)
        request.completion(.success(response.serializedBytes()))
    }
}

/// A node's discovery on a loop that the test turns.
final class DiscoveryBench {
    let loop: EventLoop
    let control: FakeControl
    let discovery: NodeDiscovery
    var snapshots: [Snapshot] = []
    var pods: [[LocalPod]] = []
    var certificates: [[Identity: CertificateState]] = []

    static let alice = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "alice")

    init(_ change: (inout DiscoveryConfiguration) -> Void = { _ in }) throws {
        loop = try EventLoop(name: "test", registry: Registry())
        control = try FakeControl()
        var configuration = DiscoveryConfiguration(
            node: NodeDescription(name: "n1"), control: "127.0.0.1:15012", roots: .literal(""))
        change(&configuration)
        discovery = NodeDiscovery(
            loop: loop, configuration, channel: control, registry: Registry(), random: { 0 })
        discovery.onSnapshot = { [unowned self] in snapshots.append($0) }
        discovery.onLocalPods = { [unowned self] in pods.append($0) }
        discovery.onCertificates = { [unowned self] in certificates.append($0) }
    }

    /// With the node's certificate and the first stream.
    static func connected() throws -> DiscoveryBench {
        let bench = try DiscoveryBench()
        bench.control.signs = true
        bench.discovery.start()
        return bench
    }

    var stream: FakeControl.Stream {
        get throws { try #require(control.streams.last) }
    }

    /// Turns the loop until `condition` holds; false after 10 s.
    func wait(until condition: () -> Bool) -> Bool {
        let deadline = MonotonicTime.now() + .seconds(60)
        while !condition() {
            guard MonotonicTime.now() < deadline else { return false }
            loop.turn(waitingAtMost: .milliseconds(20))
        }
        return true
    }
}
