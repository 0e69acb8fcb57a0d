import Discovery
import GRPC
import Linux
import Mesh
import TLS
import Testing
import Wire

struct NodeDiscoveryTests {
    private static let alice = DiscoveryBench.alice

    @Test func `gets its own certificate first, then subscribes with it`() throws {
        let bench = try DiscoveryBench()
        bench.discovery.want([Self.alice])
        bench.discovery.start()
        #expect(bench.control.streams.isEmpty)
        #expect(bench.control.certificateRequests.map(\.impersonated) == [nil])
        #expect(bench.control.certificateRequests[0].wire.validityDuration == 86_400)

        try bench.control.sign(bench.control.certificateRequests[0])
        #expect(bench.control.bundles.map(\.leaf.uriNames) == [["spiffe://cluster.local/warren/node/n1"]])
        #expect(try bench.stream.requests.count == 3)
        #expect(bench.control.certificateRequests.last?.impersonated == Self.alice.uri)
    }

    @Test func `under istiod it asks for no certificate of its own and for no pods`() throws {
        let bench = try DiscoveryBench {
            $0.usesNodeCertificate = false
            $0.subscribesToLocalPods = false
        }
        bench.discovery.start()
        #expect(bench.control.certificateRequests.isEmpty)
        #expect(try bench.stream.requests.map(\.typeURL).count == 2)
        bench.discovery.want([Self.alice])
        #expect(bench.control.certificateRequests.map(\.impersonated) == [Self.alice.uri])
    }

    @Test func `publishes snapshots and pods as they come, and answers the server`() throws {
        let bench = try DiscoveryBench.connected()
        #expect(!bench.discovery.isConnected && !bench.discovery.hasFirstState)
        try bench.stream.answer(Served.response(.addresses, nonce: "1", [Served.workload("a")]))
        #expect(bench.discovery.isConnected)
        #expect(bench.snapshots.last?.allWorkloads.map(\.name) == ["a"])
        #expect(try bench.stream.requests.last?.responseNonce == "1")

        try bench.stream.answer(Served.response(.policies, nonce: "2", [Served.policy("p")]))
        #expect(bench.wait { bench.snapshots.last?.allPolicies.count == 1 })
        #expect(bench.pods.isEmpty)
        // No pods is news as well, the first time.
        try bench.stream.answer(Served.response(.localPods, nonce: "3"))
        #expect(bench.pods == [[]])
        #expect(bench.discovery.hasFirstState)
        try bench.stream.answer(Served.response(.localPods, nonce: "4"))
        #expect(bench.pods.count == 1)
        try bench.stream.answer(Served.response(.localPods, nonce: "5", [Served.pod("x")]))
        #expect(bench.pods.last?.map(\.name) == ["x"])
        #expect(bench.discovery.lastUpdate != nil)
    }

    @Test func `publishes again when the last type comes and is empty`() throws {
        let bench = try DiscoveryBench.connected()
        try bench.stream.answer(Served.response(.addresses, nonce: "1", [Served.workload("a")]))
        try bench.stream.answer(Served.response(.localPods, nonce: "2"))
        let count = bench.snapshots.count
        #expect(!bench.discovery.hasFirstState)
        try bench.stream.answer(Served.response(.policies, nonce: "3"))
        #expect(bench.discovery.hasFirstState)
        #expect(bench.snapshots.count == count + 1)
        #expect(bench.snapshots.last?.allWorkloads.count == 1)
    }

    @Test func `connects again with what it has, keeps serving meanwhile, and says its reports again`() throws
    {
        let bench = try DiscoveryBench.connected()
        try bench.stream.answer(Served.response(.addresses, [Served.workload("a", version: "v1")]))
        bench.discovery.report(CaptureReport(uid: "a", state: .captured))
        #expect(try bench.stream.requests.last?.typeURL == Warren_V1_CaptureReport.typeURL)

        try bench.stream.listener.streamEnded(GRPCStatus(.unavailable, "transport is closing"))
        #expect(!bench.discovery.isConnected)
        #expect(bench.snapshots.last?.allWorkloads.count == 1)
        #expect(bench.wait { bench.control.streams.count == 2 })
        let requests = try bench.stream.requests
        #expect(requests[0].initialResourceVersions == ["k//Pod/shop/a": "v1"])
        #expect(requests.last?.typeURL == Warren_V1_CaptureReport.typeURL)
    }

    @Test func `gives up a stream that it cannot read, and begins another`() throws {
        let bench = try DiscoveryBench.connected()
        let first = try bench.stream
        first.listener.streamReceived([0xff])
        #expect(first.isCancelled)
        #expect(bench.wait { bench.control.streams.count == 2 })
    }

    @Test func `takes the stream to a new connection when its certificate is renewed`() throws {
        let bench = try DiscoveryBench()
        bench.discovery.start()
        // So short that it is renewed after a second; two minutes of its life are over when it comes.
        try bench.control.sign(bench.control.certificateRequests.removeFirst(), life: 60)
        let first = try bench.stream
        #expect(bench.wait { !bench.control.certificateRequests.isEmpty })
        try bench.control.sign(bench.control.certificateRequests.removeFirst())
        #expect(bench.control.bundles.count == 2)
        #expect(first.isCancelled)
        #expect(bench.control.streams.count == 2)
    }

    @Test func `publishes certificates of wanted identities, and forgets them`() throws {
        let bench = try DiscoveryBench.connected()
        bench.control.signs = false
        bench.discovery.want([Self.alice])
        #expect(bench.certificates.isEmpty)
        bench.control.certificateRequests.removeFirst().completion(
            .failure(GRPCStatus(.permissionDenied, "no such pod")))
        #expect(bench.wait { !bench.certificates.isEmpty })
        #expect(bench.certificates.last?[Self.alice] == .unavailable("permissionDenied: no such pod"))
        #expect(bench.wait { !bench.control.certificateRequests.isEmpty })
        try bench.control.sign(bench.control.certificateRequests.removeFirst())
        guard case .available(let bundle, let roots)? = bench.certificates.last?[Self.alice] else {
            Issue.record("no certificate")
            return
        }
        #expect(bundle.leaf.identity == Self.alice)
        #expect(roots == bench.control.authority.roots)
        bench.discovery.want([])
        #expect(bench.certificates.last == [:])
    }

    @Test func `gives a connection its certificate as soon as it is there`() throws {
        let bench = try DiscoveryBench.connected()
        bench.control.signs = false
        var answers: [String] = []
        func note(_ result: Result<TrustedBundle, CertificateUnavailable>) {
            switch result {
            case .success(let trusted): answers.append(trusted.bundle.leaf.uriNames.joined())
            case .failure(let error): answers.append(error.reason)
            }
        }
        bench.discovery.certificate(for: Self.alice, note)
        bench.discovery.certificate(for: Self.alice, patience: .milliseconds(5), note)
        #expect(bench.wait { answers == ["the CA did not answer in time"] })
        try bench.control.sign(bench.control.certificateRequests.removeFirst())
        #expect(answers.last == Self.alice.uri)
        bench.discovery.certificate(for: Self.alice, note)
        #expect(answers.count == 3)
        let bob = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "bob")
        bench.discovery.certificate(for: bob, note)
        bench.discovery.stop()
        #expect(answers.last == "the node is stopping")
        #expect(bench.control.isClosed)
    }

    @Test func `takes no certificate of another identity, of another key, or without roots`() throws {
        let bench = try DiscoveryBench.connected()
        bench.control.signs = false
        func refusal(_ answer: (FakeControl.CertificateRequest) throws -> Void) throws -> String {
            var reason = ""
            bench.discovery.want([])
            bench.discovery.want([Self.alice])
            bench.discovery.certificate(for: Self.alice) {
                if case .failure(let error) = $0 { reason = error.reason }
            }
            try answer(bench.control.certificateRequests.removeFirst())
            #expect(bench.wait { !reason.isEmpty })
            return reason
        }
        #expect(
            try refusal { try bench.control.sign($0, uri: "spiffe://cluster.local/ns/shop/sa/bob") }
                .contains("spiffe://cluster.local/ns/shop/sa/bob"))
        #expect(
            try refusal { request in
                var response = Istio_V1_Auth_IstioCertificateResponse()
                response.certChain = bench.control.authority.roots.map(\.pem)
                request.completion(.success(response.serializedBytes()))
            } == "the CA answered with 1 elements: no root certificate")
        #expect(
            try refusal { request in
                let key = try PrivateKey.generate()
                let leaf = try bench.control.authority.sign(
                    key.publicKey, uri: Self.alice.uri, validity: 600, usages: [.clientAuth])
                var response = Istio_V1_Auth_IstioCertificateResponse()
                response.certChain = [leaf.pem] + bench.control.authority.roots.map(\.pem)
                request.completion(.success(response.serializedBytes()))
            }.contains("another key"))
        #expect(try refusal { $0.completion(.success([0xff])) } == "truncated")
    }

    @Test func `goes on without the control component after a restart`() throws {
        let before = try DiscoveryBench.connected()
        before.discovery.want([Self.alice])
        try before.stream.answer(Served.response(.addresses, [Served.workload("a", version: "v1")]))
        try before.stream.answer(Served.response(.localPods, [Served.pod("a")]))
        let saved = before.discovery.savedState()

        let after = try DiscoveryBench()
        try after.discovery.restore(saved)
        #expect(after.snapshots.last?.allWorkloads.map(\.name) == ["a"])
        #expect(after.pods.last?.map(\.name) == ["a"])
        #expect(after.discovery.hasFirstState && !after.discovery.isConnected)
        after.discovery.start()
        after.discovery.want([Self.alice])
        // Everything valid is there: nothing is asked of the CA, and the stream begins with what is known.
        #expect(after.control.certificateRequests.isEmpty)
        guard case .available? = after.certificates.last?[Self.alice] else {
            Issue.record("no certificate")
            return
        }
        #expect(try after.stream.requests[0].initialResourceVersions == ["k//Pod/shop/a": "v1"])
    }

    @Test func `uses nothing of damaged saved state`() throws {
        let before = try DiscoveryBench.connected()
        let saved = before.discovery.savedState()
        let after = try DiscoveryBench()
        #expect(throws: WireError.self) { try after.discovery.restore(saved.dropLast(3)) }
        after.discovery.start()
        #expect(after.control.certificateRequests.count == 1)
        #expect(!after.discovery.hasFirstState)
    }

    @Test func `keeps its own certificate in a file that only it can read`() throws {
        let directory = "/tmp/warren-discovery-\(randomBytes(6).map { String($0, radix: 16) }.joined())"
        try makeDirectory(directory)
        let path = directory + "/node-certificate.pem"
        defer { try? removeFile(path) }
        let before = try DiscoveryBench { $0.stateDirectory = directory }
        before.control.signs = true
        before.discovery.start()
        let after = try DiscoveryBench { $0.stateDirectory = directory }
        after.discovery.start()
        #expect(after.control.certificateRequests.isEmpty)
        #expect(after.control.bundles.map(\.chain) == before.control.bundles.map(\.chain))
        // What is saved after that, without the roots that came with it at first, is of use to the next run.
        let saved = after.discovery.savedState()
        let next = try DiscoveryBench { $0.stateDirectory = directory }
        try next.discovery.restore(saved)
        next.discovery.start()
        #expect(next.control.certificateRequests.isEmpty)
        // Another node's is not taken.
        let other = try DiscoveryBench {
            $0.node = NodeDescription(name: "n2")
            $0.stateDirectory = directory
        }
        other.discovery.start()
        #expect(other.control.certificateRequests.count == 1)
    }
}

struct TextSourceTests {
    @Test func `reads a token without its line end, and refuses what no header can carry`() throws {
        #expect(try TextSource.literal("abc.def-_~\n").readToken() == "abc.def-_~")
        for bad in ["", "\n", "a b", "a\nb", "ä"] {
            #expect(throws: TextSourceError.self) { try TextSource.literal(bad).readToken() }
        }
        #expect(throws: TextSourceError.self) { try TextSource.file("/nonexistent/token").read() }
    }
}
