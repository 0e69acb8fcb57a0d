import Compiler
import ControlPlane
import Mesh
import Routing
import Testing
import Wire

struct WaypointPublicationTests {
    private static let type = ResourceType.waypointService.typeURL
    private static let (near, far) = (
        NamespacedName(namespace: "shop", name: "wp"), NamespacedName(namespace: "far", name: "wp")
    )

    private static func resources(_ services: [NamespacedName: [String: String]]) -> MeshResources {
        var resources = MeshResources()
        resources.waypointServices = services.mapValues { services in
            Dictionary(
                uniqueKeysWithValues: services.map { host, target in
                    var service = WaypointService(NamespacedName(namespace: "shop", name: host))
                    service.ports[80] = .init(
                        .http11,
                        virtualHosts: [
                            VirtualHost(
                                host,
                                routes: [
                                    Route(
                                        .init(object: "o", index: 0),
                                        action: .forward(
                                            Forwarding([WeightedDestination(Destination(target))])))
                                ])
                        ])
                    return (service.key, service)
                })
        }
        return resources
    }

    private static func acknowledged(_ stream: inout DeltaStream) -> [String] {
        let response = stream.receive(DeltaRequest(typeURL: type))
        _ = stream.receive(DeltaRequest(typeURL: type, nonce: response?.nonce ?? ""))
        return response?.resources.map(\.name).sorted() ?? ["no answer"]
    }

    @Test func `a waypoint gets the services that are bound to it, and nobody else gets any`() {
        let publication = Publication().next(
            Self.resources([Self.near: ["a": "x", "b": "x"], Self.far: ["c": "x"]]))
        for (subscriber, expected) in [
            (Subscriber.waypoint(Self.near), ["shop/a", "shop/b"]), (.waypoint(Self.far), ["shop/c"]),
            (.waypoint(NamespacedName(namespace: "shop", name: "other")), []), (.node("n1"), []),
            (.node(nil), []),
        ] {
            var stream = DeltaStream(subscriber, publication)
            #expect(Self.acknowledged(&stream) == expected, "\(subscriber)")
            // Nor by asking for it.
            if expected.isEmpty {
                let asked = stream.receive(DeltaRequest(typeURL: Self.type, subscribe: ["shop/a"]))
                #expect(asked?.resources.count == 0)
            }
        }
    }

    @Test
    func `what changes is sent alone, what is taken away is removed, and other waypoints hear of neither`() {
        let start = Publication().next(
            Self.resources([Self.near: ["a": "x", "b": "x"], Self.far: ["c": "x"]]))
        var (mine, theirs) = (
            DeltaStream(.waypoint(Self.near), start), DeltaStream(.waypoint(Self.far), start)
        )
        _ = (Self.acknowledged(&mine), Self.acknowledged(&theirs))
        let next = start.next(Self.resources([Self.near: ["a": "y"], Self.far: ["c": "x"]]))
        let responses = mine.publish(next)
        #expect(responses.map(\.typeURL) == [Self.type])
        #expect(responses.first?.resources.map(\.name) == ["shop/a"])
        #expect(responses.first?.removed == ["shop/b"])
        #expect(theirs.publish(next).isEmpty)
    }

    @Test func `a waypoint that loses its last service is told`() {
        let start = Publication().next(Self.resources([Self.near: ["a": "x"]]))
        var stream = DeltaStream(.waypoint(Self.near), start)
        _ = Self.acknowledged(&stream)
        let responses = stream.publish(start.next(Self.resources([:])))
        #expect(responses.first?.removed == ["shop/a"])
    }

    @Test func `equal routes are one version, whoever compiled them`() throws {
        let resources = Self.resources([Self.near: ["a": "x"], Self.far: ["a": "x"]])
        let versions = try [Publication().next(resources), Publication().next(resources)].map { publication in
            try #require(publication.waypointServices[Self.near]?.resources["shop/a"]).version
        }
        #expect(Set(versions).count == 1)
    }
}
