import Discovery
import Mesh
import Protobuf
import Routing
import Testing
import Wire

struct WaypointServiceTests {
    private static func client(restored: DiscoveredState? = nil) -> DeltaClient {
        DeltaClient(
            node: .waypoint("wp", namespace: "shop"), types: [.addresses, .policies, .waypointServices],
            restored: restored)
    }

    private static func key(_ host: String) -> NamespacedName {
        NamespacedName(namespace: "shop", name: host)
    }

    private static func resource(_ host: String, path: PathMatch = .prefix("/"), version: String = "1")
        -> Resource
    {
        var service = WaypointService(key(host))
        service.ports[80] = .init(
            .http11,
            virtualHosts: [
                VirtualHost(
                    host,
                    routes: [
                        Route(
                            .init(object: "VirtualService shop/v", index: 0),
                            matches: [RequestMatch(path: path)],
                            action: .respond(DirectResponse(status: 200)))
                    ])
            ])
        var resource = Resource()
        (resource.name, resource.version) = ("shop/\(host)", version)
        resource.resource = Google_Protobuf_Any(message: Warren_V1_WaypointService(service))
        return resource
    }

    private static func takes(_ service: CompiledWaypointService?, _ path: String) -> Bool {
        let head = RequestHead(authority: "a", path: path)
        guard case .route? = service?.table(port: 80)?.route(head, from: RequestOrigin()) else {
            return false
        }
        return true
    }

    @Test func `a waypoint asks for what it runs on, and a node does not`() {
        var waypoint = Self.client()
        #expect(waypoint.connected().map(\.typeURL).contains(ResourceType.waypointServices.typeURL))
        var node = DeltaClient(node: NodeDescription(name: "n1"))
        #expect(!node.connected().map(\.typeURL).contains(ResourceType.waypointServices.typeURL))
    }

    @Test func `services are there compiled, by their keys, and go when they are removed`() {
        var client = Self.client()
        let reception = client.received(
            Served.response(.waypointServices, [Self.resource("a"), Self.resource("b", path: .exact("/x"))]))
        #expect(
            reception.changesWaypointServices && !reception.changesSnapshot && !reception.changesLocalPods)
        #expect(!reception.reply.hasErrorDetail)
        #expect(Set(client.state.waypointServices.keys) == [Self.key("a"), Self.key("b")])
        #expect(Self.takes(client.state.waypointServices[Self.key("a")], "/y"))
        #expect(!Self.takes(client.state.waypointServices[Self.key("b")], "/y"))
        _ = client.received(Served.response(.waypointServices, removed: ["shop/a"]))
        #expect(Set(client.state.waypointServices.keys) == [Self.key("b")])
    }

    @Test func `a regular expression that cannot be used is refused by name, and the rest is applied`() {
        var client = Self.client()
        _ = client.received(Served.response(.waypointServices, [Self.resource("a")]))
        let reception = client.received(
            Served.response(
                .waypointServices,
                [
                    Self.resource("a", path: .regex("("), version: "2"), Self.resource("b"),
                    Self.resource("c", path: .regex("[")),
                ]))
        #expect(reception.rejections.map(\.name) == ["shop/a", "shop/c"])
        let message = reception.reply.errorDetail.message
        #expect(message.hasPrefix("shop/a: port 80 VirtualService shop/v rule 0: "), "\(message)")
        // The version before it stays; where there was none, there is none.
        #expect(Self.takes(client.state.waypointServices[Self.key("a")], "/y"))
        #expect(Set(client.state.waypointServices.keys) == [Self.key("a"), Self.key("b")])
        // Said on the next stream: what was refused and is not there is sent again.
        let request = client.connected().first { $0.typeURL == ResourceType.waypointServices.typeURL }
        #expect(request?.initialResourceVersions == ["shop/a": "1", "shop/b": "1", "shop/c": ""])
    }

    @Test func `a field that the model cannot express is named in the refusal`() throws {
        var client = Self.client()
        var broken = Self.resource("a")
        var wire = try Warren_V1_WaypointService(unpackingAny: broken.resource)
        wire.ports[80]?.virtualHosts[0].routes[0].action = nil
        broken.resource = Google_Protobuf_Any(message: wire)
        let reception = client.received(Served.response(.waypointServices, [broken]))
        #expect(
            reception.reply.errorDetail.message
                == "shop/a: ports[80].virtual_hosts[0].routes[0].action: missing, or of a kind that is not supported"
        )
        var misnamed = Self.resource("a")
        misnamed.name = "shop/b"
        #expect(
            client.received(Served.response(.waypointServices, [misnamed])).reply.errorDetail.message
                == "shop/b: name: the resource is shop/a")
    }

    private static func bench(_ received: @escaping ([NamespacedName: CompiledWaypointService]) -> Void)
        throws
        -> DiscoveryBench
    {
        let bench = try DiscoveryBench {
            $0.node = .waypoint("wp", namespace: "shop")
            $0.usesNodeCertificate = false
        }
        bench.discovery.onWaypointServices = received
        return bench
    }

    @Test func `they are published as they come, first when they are known, and over a restart`() throws {
        var taken: [Set<String>] = []
        let bench = try Self.bench { taken.append(Set($0.keys.map(\.name))) }
        bench.discovery.start()
        #expect(
            try bench.stream.requests.map(\.typeURL) == [
                ResourceType.addresses.typeURL, ResourceType.policies.typeURL,
                ResourceType.waypointServices.typeURL,
            ])
        // None is news as well, the first time.
        try bench.stream.answer(Served.response(.waypointServices, nonce: "1"))
        try bench.stream.answer(Served.response(.waypointServices, nonce: "2"))
        #expect(taken == [[]])
        try bench.stream.answer(Served.response(.waypointServices, nonce: "3", [Self.resource("a")]))
        #expect(taken == [[], ["a"]])
        #expect(!bench.discovery.hasFirstState)

        var restored: [Set<String>] = []
        let next = try Self.bench { restored.append(Set($0.keys.map(\.name))) }
        try next.discovery.restore(bench.discovery.savedState())
        #expect(restored == [["a"]])
    }
}
