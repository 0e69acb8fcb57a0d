import Address
import Discovery
import Mesh
import Protobuf
import TestSupport
import Testing
import Wire

typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse
typealias Resource = Envoy_Service_Discovery_V3_Resource

/// Resources and responses as a control component would write them.
enum Served {
    static func workload(_ name: String, version: String = "1", address: String = "10.0.0.1") -> Resource {
        let workload = Workload(
            uid: "k//Pod/shop/\(name)", name: name, namespace: "shop",
            addresses: [IPAddress(address)].compactMap { $0 }, tunnelProtocol: .hbone, node: "n1")
        var wire = Istio_Workload_Address()
        wire.workload = Istio_Workload_Workload(workload)
        return resource(workload.uid, version, wire)
    }

    static func service(_ hostname: String, version: String = "1") -> Resource {
        var wire = Istio_Workload_Address()
        wire.service = Istio_Workload_Service(Service(name: "s", namespace: "shop", hostname: hostname))
        return resource("shop/\(hostname)", version, wire)
    }

    static func policy(
        _ name: String, version: String = "1",
        _ change: (inout Istio_Security_Authorization) -> Void = { _ in }
    ) -> Resource {
        var wire = Istio_Security_Authorization()
        (wire.namespace, wire.name, wire.scope) = ("shop", name, .namespace)
        change(&wire)
        return resource("shop/\(name)", version, wire)
    }

    static func pod(_ name: String, version: String = "1") -> Resource {
        let pod = LocalPod(
            uid: name, namespace: "shop", name: name, serviceAccount: "default", labels: [:], addresses: [],
            networkNamespace: "/run/netns/\(name)")
        return resource(name, version, Warren_V1_LocalPod(pod))
    }

    /// A policy that cannot be understood.
    static func brokenPolicy(_ name: String, version: String = "1", action: Istio_Security_Action = .allow)
        -> Resource
    {
        policy(name, version: version) {
            $0.action = action
            $0.groups = [.init()]
            $0.groups[0].rules = [.init()]
            $0.groups[0].rules[0].matches = [.init()]
            $0.groups[0].rules[0].matches[0].principals = [.init()]
        }
    }

    private static func resource(_ name: String, _ version: String, _ message: some Message) -> Resource {
        var resource = Resource()
        (resource.name, resource.version) = (name, version)
        resource.resource = Google_Protobuf_Any(message: message)
        return resource
    }

    static func response(
        _ type: ResourceType, nonce: String = "n", _ resources: [Resource] = [], removed: [String] = []
    ) -> Response {
        var response = Response()
        (response.typeURL, response.nonce) = (type.typeURL, nonce)
        response.resources = resources
        response.removedResources = removed
        return response
    }
}

struct DeltaClientTests {
    private static func client(restored: DiscoveredState? = nil) -> DeltaClient {
        DeltaClient(node: NodeDescription(name: "n1"), restored: restored)
    }

    private static func uid(_ name: String) -> String { "k//Pod/shop/\(name)" }

    @Test func `subscribes to every type by wildcard and introduces itself with each`() {
        var client = Self.client()
        let requests = client.connected()
        #expect(
            requests.map(\.typeURL) == [
                "type.googleapis.com/istio.workload.Address",
                "type.googleapis.com/istio.security.Authorization",
                "type.googleapis.com/warren.v1.LocalPod",
            ])
        for request in requests {
            #expect(request.node.id == "ztunnel~1.1.1.1~n1.warren-system~warren-system.svc.cluster.local")
            #expect(request.node.metadata.text("NODE_NAME") == "n1")
            #expect(request.resourceNamesSubscribe.isEmpty && request.initialResourceVersions.isEmpty)
        }
    }

    @Test func `acknowledges what it applied`() throws {
        var client = Self.client()
        _ = client.connected()
        let reception = client.received(
            Served.response(.addresses, nonce: "7", [Served.workload("a"), Served.service("web")]))
        #expect(reception.reply.responseNonce == "7")
        #expect(reception.reply.typeURL == ResourceType.addresses.typeURL)
        #expect(!reception.reply.hasErrorDetail)
        #expect(!reception.reply.hasNode)
        #expect(reception.changesSnapshot && !reception.changesLocalPods)
        var state = client.state
        let snapshot = state.snapshot()
        #expect(snapshot.workload(uid: Self.uid("a")) != nil)
        #expect(snapshot.service(NamespacedName(namespace: "shop", name: "web")) != nil)
    }

    @Test func `refuses the bad resources by name and applies the good ones`() throws {
        var client = Self.client()
        var bad = Served.workload("bad")
        var wire = try Istio_Workload_Address(unpackingAny: bad.resource)
        wire.workload.addresses = [[1, 2, 3]]
        bad.resource = Google_Protobuf_Any(message: wire)
        var misnamed = Served.workload("x")
        misnamed.name = "y"
        var garbage = Served.workload("z")
        garbage.resource.value = [0xff]

        let reception = client.received(
            Served.response(.addresses, [bad, Served.workload("good"), misnamed, garbage]))
        #expect(
            reception.reply.errorDetail.message
                == "k//Pod/shop/bad: addresses[0]: 3 bytes, expected 4 or 16; "
                + "y: name: the resource is k//Pod/shop/x; "
                + "k//Pod/shop/z: value: no istio.workload.Address: truncated")
        #expect(reception.reply.errorDetail.code == 0)
        #expect(reception.rejections.count == 3)
        var state = client.state
        #expect(state.snapshot().allWorkloads.map(\.name) == ["good"])
    }

    @Test func `names at most a hundred refused resources`() {
        var client = Self.client()
        let bad = (0..<150).map { Served.brokenPolicy("p\($0)") }
        let message = client.received(Served.response(.policies, bad)).reply.errorDetail.message
        #expect(message.hasSuffix("; and 50 more"))
        #expect(message.split(separator: ";").count == 101)
    }

    @Test func `keeps the last good version of a resource`() {
        var client = Self.client()
        _ = client.received(
            Served.response(.policies, [Served.policy("p", version: "1") { $0.action = .deny }]))
        let reception = client.received(Served.response(.policies, [Served.brokenPolicy("p", version: "2")]))
        #expect(reception.rejections.map(\.name) == ["shop/p"])
        var state = client.state
        #expect(state.snapshot().allPolicies.map(\.action) == [.deny])
        #expect(client.connected()[1].initialResourceVersions == ["shop/p": "1"])
    }

    @Test func `closes what a policy was to decide about when it was never understood`() {
        var client = Self.client()
        let bad = [Served.brokenPolicy("a"), Served.brokenPolicy("d", action: .deny)]
        _ = client.received(Served.response(.policies, bad))
        var state = client.state
        let policies = state.snapshot().allPolicies
        #expect(policies.map(\.action) == [.allow, .deny])
        // Allows nobody; denies everybody.
        #expect(policies.map(\.rules) == [[], [.init(clauses: [])]])
        // A version that the server cannot have: sent again, or reported as removed.
        #expect(client.connected()[1].initialResourceVersions == ["shop/a": "", "shop/d": ""])

        _ = client.received(
            Served.response(.policies, [Served.policy("a", version: "2")], removed: ["shop/d"]))
        state = client.state
        #expect(state.snapshot().allPolicies.map(\.name.name) == ["a"])
    }

    @Test func `applies removals after updates, and an unknown one is no error`() {
        var client = Self.client()
        _ = client.received(Served.response(.addresses, [Served.workload("a"), Served.service("web")]))
        let reception = client.received(
            Served.response(
                .addresses, [Served.workload("a", version: "2")],
                removed: [Self.uid("a"), "shop/web", "nobody"]))
        #expect(!reception.reply.hasErrorDetail)
        var state = client.state
        #expect(state.snapshot().allWorkloads.isEmpty && state.snapshot().allServices.isEmpty)
        #expect(client.connected()[0].initialResourceVersions.isEmpty)
    }

    @Test func `tells a new stream what it has`() {
        var client = Self.client()
        _ = client.connected()
        _ = client.received(Served.response(.addresses, [Served.workload("a", version: "v7")]))
        _ = client.received(Served.response(.addresses, [Served.service("web", version: "v8")]))
        client.disconnected()
        let requests = client.connected()
        #expect(requests[0].initialResourceVersions == [Self.uid("a"): "v7", "shop/web": "v8"])
        #expect(requests[0].hasNode)
    }

    @Test func `acknowledges a type it never asked for`() {
        var client = Self.client()
        var response = Response()
        (response.typeURL, response.nonce) = ("type.googleapis.com/envoy.config.cluster.v3.Cluster", "3")
        let reception = client.received(response)
        #expect(reception.type == nil && reception.reply.responseNonce == "3")
        #expect(!reception.reply.hasErrorDetail && !reception.changesSnapshot)
        var limited = DeltaClient(node: NodeDescription(name: "n1"), types: [.addresses, .policies])
        #expect(limited.received(Served.response(.localPods, [Served.pod("a")])).type == nil)
    }

    @Test func `is ready when every type was answered, even in part`() {
        var client = Self.client()
        #expect(!client.isReady)
        _ = client.received(Served.response(.addresses))
        _ = client.received(Served.response(.policies, [Served.brokenPolicy("p")]))
        #expect(!client.isReady)
        _ = client.received(Served.response(.localPods))
        #expect(client.isReady)
    }

    @Test func `an empty response changes nothing, one without contents neither`() {
        var client = Self.client()
        #expect(!client.received(Served.response(.addresses)).changesSnapshot)
        _ = client.received(Served.response(.addresses, [Served.workload("a")]))
        var current = Resource()
        (current.name, current.version) = (Self.uid("a"), "1")
        let reception = client.received(Served.response(.addresses, [current]))
        #expect(reception.rejections.isEmpty)
        #expect(client.state.count(.addresses) == 1)
    }

    @Test func `gives the pods to capture`() {
        var client = Self.client()
        let reception = client.received(Served.response(.localPods, [Served.pod("b"), Served.pod("a")]))
        #expect(reception.changesLocalPods && !reception.changesSnapshot)
        #expect(client.state.localPods.map(\.name) == ["a", "b"])
        _ = client.received(Served.response(.localPods, removed: ["a"]))
        #expect(client.state.localPods.map(\.name) == ["b"])
    }

    @Test func `reports captures once, and all of them again on a new stream`() throws {
        var client = Self.client()
        let a = CaptureReport(uid: "a", state: .captured)
        let b = CaptureReport(uid: "b", state: .refused, reason: "no such namespace")
        #expect(client.report(a) == nil)
        let requests = client.connected()
        let first = try #require(requests.last)
        #expect(first.typeURL == "type.googleapis.com/warren.v1.CaptureReport")
        #expect(first.errorDetail.code == 0)
        #expect(try Self.reports(first) == [a])

        #expect(client.report(a) == nil)
        let second = client.report(b)
        #expect(try Self.reports(second) == [b])
        let gone = CaptureReport(uid: "a", state: .removed)
        let third = client.report(gone)
        #expect(try Self.reports(third) == [gone])
        // Until the server has answered something, it may not have come through.
        client.disconnected()
        #expect(client.report(CaptureReport(uid: "c", state: .removed)) == nil)
        let again = client.connected().last
        #expect(try Self.reports(again).map(\.uid) == ["a", "b", "c"])
        _ = client.received(Served.response(.localPods))
        client.disconnected()
        let once = client.connected().last
        #expect(try Self.reports(once).map(\.uid) == ["b"])
    }

    private static func reports(_ request: DeltaClient.Request?) throws -> [CaptureReport] {
        try #require(request).errorDetail.details.map {
            try CaptureReport(Warren_V1_CaptureReport(unpackingAny: $0))
        }
    }

    @Test func `goes on from what an earlier run has saved`() throws {
        var before = Self.client()
        _ = before.received(
            Served.response(
                .addresses, [Served.workload("a", version: "v1"), Served.service("web", version: "v2")]))
        _ = before.received(
            Served.response(
                .policies, [Served.policy("p", version: "v3"), Served.brokenPolicy("q", action: .deny)]))
        _ = before.received(Served.response(.localPods, [Served.pod("a", version: "v4")]))
        let certificates = [
            SavedState.Certificate(subject: .node, privateKey: "k", chain: "c", roots: "r"),
            SavedState.Certificate(
                subject: .workload(Identity(trustDomain: "td", namespace: "n", serviceAccount: "s")),
                privateKey: "k2", chain: "c2", roots: "r2"),
        ]
        let saved = SavedState(discovered: before.state, certificates: certificates, savedAt: 1_700_000_000)
        let restored = try SavedState(decoding: saved.encoded(), node: "n1")
        #expect(restored.certificates == certificates)
        #expect(restored.savedAt == 1_700_000_000)

        var after = Self.client(restored: restored.discovered)
        #expect(after.isReady)
        var (old, new) = (before.state, after.state)
        #expect(new.snapshot().allWorkloads == old.snapshot().allWorkloads)
        #expect(new.snapshot().allPolicies == old.snapshot().allPolicies)
        #expect(new.snapshot().allServices.map(\.service) == old.snapshot().allServices.map(\.service))
        #expect(new.localPods == old.localPods)
        #expect(
            after.connected().map(\.initialResourceVersions)
                == before.connected().map(\.initialResourceVersions))
    }

    @Test func `refuses saved state of another node, of another version, or damaged`() {
        let bytes = SavedState(discovered: DiscoveredState(node: "n1"), certificates: [], savedAt: 0)
            .encoded()
        #expect(throws: WireError("node", "\"n1\", expected \"n2\"")) {
            try SavedState(decoding: bytes, node: "n2")
        }
        #expect(throws: WireError.self) { try SavedState(decoding: bytes.dropLast(), node: "n1") }
        #expect(throws: WireError.self) { try SavedState(decoding: [], node: "n1") }
        #expect(throws: WireError.self) { try SavedState(decoding: [0x08, 0x02], node: "n1") }
    }
}

/// Responses and saved state that were valid until something bent them.
struct MutatedDiscoveryTests {
    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `survives mutated responses and saved state`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let responses = [
            Served.response(
                .addresses, [Served.workload("a"), Served.service("web")], removed: ["shop/old"]),
            Served.response(.policies, [Served.policy("p"), Served.brokenPolicy("q", action: .deny)]),
            Served.response(.localPods, [Served.pod("x")], removed: ["y"]),
        ]
        var full = DeltaClient(node: NodeDescription(name: "n1"))
        for response in responses { _ = full.received(response) }
        let certificate = SavedState.Certificate(subject: .node, privateKey: "k", chain: "c", roots: "r")
        let saved = SavedState(discovered: full.state, certificates: [certificate], savedAt: 1).encoded()
        let inputs = responses.map { $0.serializedBytes() } + [saved]

        var client = DeltaClient(node: NodeDescription(name: "n1"))
        var applied = 0
        for _ in 0..<20_000 {
            var bytes = inputs[Int.random(in: 0..<inputs.count, using: &random)]
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            if let response = try? Response(serializedBytes: bytes) {
                let reception = client.received(response)
                // Every response is answered, with its own nonce.
                #expect(reception.reply.responseNonce == response.nonce, "seed \(seed)")
                applied += 1
            }
            _ = try? SavedState(decoding: bytes, node: "n1")
        }
        #expect(applied > 1_000)
        // What was taken over can be saved and taken back.
        var (before, after) = (client.state, client.state)
        after = try SavedState(
            decoding: SavedState(discovered: before, certificates: [], savedAt: 1).encoded(), node: "n1"
        ).discovered
        #expect(after.snapshot().allPolicies == before.snapshot().allPolicies, "seed \(seed)")
    }
}

struct BackoffTests {
    @Test func `doubles from the base to the limit and begins anew after a success`() {
        var backoff = Backoff(base: .milliseconds(10), limit: .seconds(15), spread: 0.5)
        let waits = (0..<13).map { _ in backoff.failed(random: 0) }
        #expect(waits.prefix(3) == [.milliseconds(10), .milliseconds(20), .milliseconds(40)])
        #expect(waits[11] == .seconds(15) && waits[12] == .seconds(15))
        backoff.succeeded()
        #expect(backoff.failed(random: 0) == .milliseconds(10))
    }

    @Test func `spreads each wait, never beyond the limit`() {
        var backoff = Backoff.certificate
        #expect(backoff.failed(random: -1) == .milliseconds(800))
        #expect(backoff.failed(random: 1) == .milliseconds(2_400))
        for _ in 0..<100 { #expect(backoff.failed(random: 1) <= .seconds(150)) }
        #expect(backoff.failed(random: 50) == .seconds(150))
    }
}
