import Address
import Compiler
import ControlPlane
import Mesh
import Testing
import Wire

struct DeltaStreamTests {
    static func workload(_ name: String, _ address: UInt32, node: String = "n1", services: [String] = [])
        -> Workload
    {
        Workload(
            uid: "c//Pod/ns/\(name)", name: name, namespace: "ns", addresses: [IPAddress(ipv4: address)],
            node: node,
            services: Dictionary(
                services.map { (NamespacedName(namespace: "ns", name: $0), [80: 8080]) },
                uniquingKeysWith: { a, _ in a }))
    }

    static func service(_ host: String, _ address: UInt32) -> Service {
        Service(
            name: host, namespace: "ns", hostname: host,
            addresses: [.init(network: "", prefix: Prefix(IPAddress(ipv4: address)))],
            ports: [.init(servicePort: 80, targetPort: 8080)])
    }

    static func resources(_ workloads: [Workload], _ services: [Service] = []) -> MeshResources {
        var resources = MeshResources()
        for workload in workloads { resources.workloads[workload.uid] = workload }
        for service in services { resources.services[service.key] = service }
        return resources
    }

    static func publication(_ workloads: Workload..., services: [Service] = []) -> Publication {
        Publication().next(resources(workloads, services))
    }

    static let address = ResourceType.address.typeURL

    static func names(_ response: DeltaResponse?) -> [String]? {
        response.map {
            $0.resources.map { $0.name.split(separator: "/").last.map(String.init) ?? "" }.sorted()
        }
    }

    // MARK: Everything

    @Test func `a first request without names gets everything, and an empty mesh an empty answer`() {
        var stream = DeltaStream(.node("n1"), Self.publication(Self.workload("a", 1), Self.workload("b", 2)))
        let response = stream.receive(DeltaRequest(typeURL: Self.address))
        #expect(Self.names(response) == ["a", "b"])
        #expect(response?.removed == [])
        var empty = DeltaStream(.node("n1"), Publication())
        let answer = empty.receive(DeltaRequest(typeURL: Self.address))
        #expect(Self.names(answer) == [])
    }

    @Test func `an acknowledgement is not answered`() {
        var stream = DeltaStream(.node("n1"), Self.publication(Self.workload("a", 1)))
        let first = stream.receive(DeltaRequest(typeURL: Self.address))
        #expect(stream.status(of: .address)?.isWaiting == true)
        let answer = stream.receive(DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? ""))
        #expect(answer == nil)
        #expect(stream.status(of: .address)?.accepted == 1)
        #expect(stream.status(of: .address)?.isWaiting == false)
    }

    @Test func `a change is sent alone`() {
        let before = Self.publication(Self.workload("a", 1), Self.workload("b", 2), Self.workload("c", 3))
        var stream = DeltaStream(.node("n1"), before)
        let first = stream.receive(DeltaRequest(typeURL: Self.address))
        _ = stream.receive(DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? ""))
        let after = before.next(Self.resources([Self.workload("a", 1), Self.workload("b", 9)]))
        let responses = stream.publish(after)
        #expect(responses.count == 1)
        #expect(Self.names(responses.first) == ["b"])
        #expect(responses.first?.removed == ["c//Pod/ns/c"])
        let answer = stream.publish(after.next(after.resources))
        #expect(answer.isEmpty, "nothing changed, nothing is sent")
    }

    @Test func `while an answer is awaited changes are put together`() {
        let start = Self.publication(Self.workload("a", 1))
        var stream = DeltaStream(.node("n1"), start)
        let first = stream.receive(DeltaRequest(typeURL: Self.address))
        let second = start.next(Self.resources([Self.workload("a", 2), Self.workload("b", 3)]))
        let answer = stream.publish(second)
        #expect(answer.isEmpty)
        let third = second.next(Self.resources([Self.workload("a", 4)]))
        let later = stream.publish(third)
        #expect(later.isEmpty)
        let response = stream.receive(DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? ""))
        #expect(Self.names(response) == ["a"], "b came and went unseen")
        #expect(response?.removed == [])
        #expect(response?.resources.first?.version == third.addressVersion("c//Pod/ns/a"))
    }

    @Test func `a change that is taken back is not sent`() {
        let start = Self.publication(Self.workload("a", 1))
        var stream = DeltaStream(.node("n1"), start)
        let first = stream.receive(DeltaRequest(typeURL: Self.address))
        let second = start.next(Self.resources([Self.workload("a", 2)]))
        _ = stream.publish(second)
        _ = stream.publish(second.next(start.resources))
        let answer = stream.receive(DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? ""))
        #expect(answer == nil)
    }

    @Test func `a refusal is kept, not answered, and the next change goes out`() {
        let start = Self.publication(Self.workload("a", 1))
        var stream = DeltaStream(.node("n1"), start)
        let first = stream.receive(DeltaRequest(typeURL: Self.address))
        let refusal = DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? "", refusal: "a: bad port")
        let answer = stream.receive(refusal)
        #expect(answer == nil)
        #expect(stream.status(of: .address)?.refusal == "a: bad port")
        #expect(stream.status(of: .address)?.refused == 1)
        let next = stream.publish(start.next(Self.resources([Self.workload("a", 2)])))
        #expect(Self.names(next.first) == ["a"])
        _ = stream.receive(DeltaRequest(typeURL: Self.address, nonce: next.first?.nonce ?? ""))
        #expect(stream.status(of: .address)?.refusal == nil)
    }

    @Test func `an answer to an old response changes nothing`() {
        let start = Self.publication(Self.workload("a", 1))
        var stream = DeltaStream(.node("n1"), start)
        _ = stream.receive(DeltaRequest(typeURL: Self.address))
        let answer = stream.receive(DeltaRequest(typeURL: Self.address, nonce: "nonsense", refusal: "x"))
        #expect(answer == nil)
        #expect(stream.status(of: .address)?.isWaiting == true)
        #expect(stream.status(of: .address)?.refusal == nil)
    }

    @Test func `after a reconnect only differences are sent, and what is gone is removed`() throws {
        let publication = Self.publication(
            Self.workload("a", 1), Self.workload("b", 2), Self.workload("new", 3))
        let version = try #require(publication.addressVersion("c//Pod/ns/a"))
        var stream = DeltaStream(.node("n1"), publication)
        let response = stream.receive(
            DeltaRequest(
                typeURL: Self.address,
                initialVersions: ["c//Pod/ns/a": version, "c//Pod/ns/b": "old", "c//Pod/ns/gone": version]))
        #expect(Self.names(response) == ["b", "new"])
        #expect(response?.removed == ["c//Pod/ns/gone"])
    }

    @Test func `after a reconnect with everything current the answer is empty but there`() throws {
        let publication = Self.publication(Self.workload("a", 1))
        let version = try #require(publication.addressVersion("c//Pod/ns/a"))
        var stream = DeltaStream(.node("n1"), publication)
        let response = stream.receive(
            DeltaRequest(typeURL: Self.address, initialVersions: ["c//Pod/ns/a": version]))
        #expect(Self.names(response) == [])
        #expect(response?.removed == [])
    }

    @Test func `versions are hashes of the contents`() {
        let one = Self.publication(Self.workload("a", 1))
        let other = Self.publication(Self.workload("a", 2))
        let again = Self.publication(Self.workload("a", 1))
        #expect(one.addressVersion("c//Pod/ns/a") == again.addressVersion("c//Pod/ns/a"))
        #expect(one.addressVersion("c//Pod/ns/a") != other.addressVersion("c//Pod/ns/a"))
    }

    @Test func `many changes at once, more than are remembered, are still exact`() {
        var publication = Self.publication(Self.workload("a", 1), Self.workload("stays", 2))
        var stream = DeltaStream(.node("n1"), publication)
        let first = stream.receive(DeltaRequest(typeURL: Self.address))
        for number in 3..<103 as Range<UInt32> {
            publication = publication.next(
                Self.resources([Self.workload("stays", 2), Self.workload("x\(number)", number)]))
            _ = stream.publish(publication)
        }
        let response = stream.receive(DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? ""))
        #expect(Self.names(response) == ["x102"])
        #expect(response?.removed == ["c//Pod/ns/a"])
    }

    // MARK: On demand

    static let demandStart = DeltaRequest(typeURL: address, subscribe: ["*"], unsubscribe: ["*"])

    @Test func `an on-demand client begins with its own node's workloads and gets what it asks for`() {
        let publication = Self.publication(
            Self.workload("own", 1, node: "n1"), Self.workload("far", 2, node: "n2", services: ["s"]),
            Self.workload("farther", 3, node: "n2", services: ["s"]), services: [Self.service("s", 10)])
        var stream = DeltaStream(.node("n1"), publication)
        let first = stream.receive(Self.demandStart)
        #expect(Self.names(first) == ["own"])
        let byAddress = stream.receive(
            DeltaRequest(typeURL: Self.address, subscribe: ["/0.0.0.10"], nonce: first?.nonce ?? ""))
        #expect(Self.names(byAddress) == ["far", "farther", "s"], "a service comes with its workloads")
        let unknown = stream.receive(
            DeltaRequest(typeURL: Self.address, subscribe: ["/9.9.9.9"], nonce: byAddress?.nonce ?? ""))
        #expect(Self.names(unknown) == [])
        #expect(unknown?.removed == ["/9.9.9.9"], "so that the client need not wait for it")
        let again = stream.receive(
            DeltaRequest(typeURL: Self.address, subscribe: ["ns/s"], nonce: unknown?.nonce ?? ""))
        #expect(Self.names(again) == ["far", "farther", "s"], "asked again, sent again")
    }

    @Test func `an on-demand client hears of changes to what it asked for only`() {
        let start = Self.publication(
            Self.workload("far", 2, node: "n2"), Self.workload("other", 3, node: "n2"))
        var stream = DeltaStream(.node("n1"), start)
        let first = stream.receive(Self.demandStart)
        let second = stream.receive(
            DeltaRequest(typeURL: Self.address, subscribe: ["c//Pod/ns/far"], nonce: first?.nonce ?? ""))
        #expect(Self.names(second) == ["far"])
        _ = stream.receive(DeltaRequest(typeURL: Self.address, nonce: second?.nonce ?? ""))
        let other = start.next(
            Self.resources([Self.workload("far", 2, node: "n2"), Self.workload("other", 4, node: "n2")]))
        let answer = stream.publish(other)
        #expect(answer.isEmpty)
        let gone = stream.publish(other.next(Self.resources([])))
        #expect(gone.first?.removed == ["c//Pod/ns/far"])
    }

    @Test func `what is unsubscribed is no longer sent`() {
        let start = Self.publication(Self.workload("far", 2, node: "n2"))
        var stream = DeltaStream(.node("n1"), start)
        let first = stream.receive(
            DeltaRequest(typeURL: Self.address, subscribe: ["c//Pod/ns/far"]))
        #expect(Self.names(first) == ["far"])
        let second = stream.receive(
            DeltaRequest(typeURL: Self.address, unsubscribe: ["c//Pod/ns/far"], nonce: first?.nonce ?? ""))
        #expect(Self.names(second) == [])
        _ = stream.receive(DeltaRequest(typeURL: Self.address, nonce: second?.nonce ?? ""))
        let answer = stream.publish(start.next(Self.resources([Self.workload("far", 9, node: "n2")])))
        #expect(answer.isEmpty)
    }

    @Test func `a request that waits behind a response is answered with its acknowledgement`() {
        var stream = DeltaStream(.node("n1"), Self.publication(Self.workload("far", 2, node: "n2")))
        let first = stream.receive(Self.demandStart)
        let answer = stream.receive(DeltaRequest(typeURL: Self.address, subscribe: ["/0.0.0.2"]))
        #expect(answer == nil)
        let second = stream.receive(DeltaRequest(typeURL: Self.address, nonce: first?.nonce ?? ""))
        #expect(Self.names(second) == ["far"])
    }

    @Test func `a name that no resource can have is passed over`() {
        var stream = DeltaStream(.node(nil), Publication())
        let name = String(repeating: "x", count: 1_025)
        let response = stream.receive(DeltaRequest(typeURL: Self.address, subscribe: [name, "short"]))
        #expect(response?.removed == ["short"])
    }

    @Test func `a workload of the host's network is not found by its address`() {
        var host = Self.workload("host", 5)
        host.networkMode = .hostNetwork
        var stream = DeltaStream(.node(nil), Self.publication(host))
        let response = stream.receive(DeltaRequest(typeURL: Self.address, subscribe: ["/0.0.0.5"]))
        #expect(response?.removed == ["/0.0.0.5"])
    }

    // MARK: Other types

    @Test func `pods go to their own node and to nobody else`() {
        var resources = MeshResources()
        resources.localPods["n1"] = [
            LocalPod(
                uid: "ns/a", namespace: "ns", name: "a", serviceAccount: "default", labels: [:],
                addresses: [],
                networkNamespace: "x")
        ]
        let publication = Publication().next(resources)
        for (node, expected) in [("n1", ["a"]), ("n2", []), (nil, [])] as [(String?, [String])] {
            var stream = DeltaStream(.node(node), publication)
            let response = stream.receive(DeltaRequest(typeURL: ResourceType.localPod.typeURL))
            #expect(Self.names(response) == expected)
            let named = stream.receive(
                DeltaRequest(
                    typeURL: ResourceType.localPod.typeURL, subscribe: ["ns/a"], nonce: response?.nonce ?? "")
            )
            #expect(Self.names(named) == expected)
        }
        var stream = DeltaStream(.node("n1"), publication)
        let first = stream.receive(DeltaRequest(typeURL: ResourceType.localPod.typeURL))
        _ = stream.receive(DeltaRequest(typeURL: ResourceType.localPod.typeURL, nonce: first?.nonce ?? ""))
        let answer = stream.publish(publication.next(MeshResources()))
        #expect(answer.first?.removed == ["ns/a"])
    }

    @Test func `a type that is not known gets an empty answer once`() {
        var stream = DeltaStream(.node("n1"), Publication())
        let response = stream.receive(DeltaRequest(typeURL: "type.googleapis.com/x.Y"))
        #expect(response?.typeURL == "type.googleapis.com/x.Y")
        #expect(response?.resources == [])
        let answer = stream.receive(
            DeltaRequest(typeURL: "type.googleapis.com/x.Y", nonce: response?.nonce ?? ""))
        #expect(
            answer
                == nil)
    }

    @Test func `a response is what a protobuf library reads`() throws {
        let publication = Self.publication(Self.workload("a", 1))
        var stream = DeltaStream(.node("n1"), publication)
        let answer = stream.receive(DeltaRequest(typeURL: Self.address))
        var response = try #require(answer)
        response.removed = ["x"]
        let wire = try Envoy_Service_Discovery_V3_DeltaDiscoveryResponse(
            serializedBytes: response.serializedBytes())
        #expect(
            wire.typeURL == Self.address && wire.nonce == response.nonce && wire.removedResources == ["x"])
        let resource = try #require(wire.resources.first)
        #expect(resource.name == "c//Pod/ns/a" && resource.aliases == ["/0.0.0.1"])
        let address = try Istio_Workload_Address(unpackingAny: resource.resource)
        #expect(try Workload(address.workload) == Self.workload("a", 1))
    }
}

extension Publication {
    func addressVersion(_ name: String) -> String? { addresses.resources[name]?.version }
}
