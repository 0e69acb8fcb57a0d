// What a decision costs by the size of the mesh, and what one change of it costs. Runs under callgrind, which counts nothing but
// what `count` encloses; Tests/gates/scaling.py reads what it wrote. Each name is `WHAT, N workloads/HOW MANY TIMES`.
import Address
import CCallgrind
import Decision
import Mesh
import TestSupport

/// A mesh in which all things are what they are in a small one, only more of them: services of 10 endpoints, nodes of 100 pods,
/// namespaces of 50 policies.
struct World {
    static let policiesPerNamespace = 50
    let size: Int
    let namespaces: Int

    init(size: Int) {
        self.size = size
        namespaces = min(200, max(1, size / 10))
    }

    var policyCount: Int { namespaces * Self.policiesPerNamespace }

    func namespace(of pod: Int) -> String { "namespace-\(pod / 10 % namespaces)" }
    static func address(ofPod pod: Int) -> IPAddress { IPAddress(ipv4: 0x0a00_0000 + UInt32(pod)) }
    static func address(ofService service: Int) -> IPAddress {
        IPAddress(ipv4: 0xac10_0000 + UInt32(service))
    }

    func workload(_ pod: Int, revision: Int = 0) -> Workload {
        let namespace = namespace(of: pod)
        return Workload(
            uid: "Kubernetes//Pod/\(namespace)/pod-\(pod)", name: "pod-\(pod)", namespace: namespace,
            addresses: [Self.address(ofPod: pod)], tunnelProtocol: .hbone,
            serviceAccount: "service-\(pod / 10)",
            node: "node-\(pod / 100)", canonicalRevision: "r\(revision)",
            services: [NamespacedName(namespace: namespace, name: "service-\(pod / 10).example"): [80: 8080]])
    }

    func service(_ number: Int) -> Service {
        Service(
            name: "service-\(number)", namespace: namespace(of: number * 10),
            hostname: "service-\(number).example",
            addresses: [.init(network: "", prefix: Prefix(Self.address(ofService: number)))],
            ports: [.init(servicePort: 80, targetPort: 8080)])
    }

    /// Lets one client in; the last of a namespace lets in everybody of the mesh.
    func policy(_ number: Int, revision: Int = 0) -> Policy {
        let place = number % Self.policiesPerNamespace
        var match = Policy.Match()
        match.principals = [
            place == Self.policiesPerNamespace - 1
                ? .prefix("cluster.local/")
                : .exact("cluster.local/ns/elsewhere/sa/client-\(number)-\(revision)")
        ]
        return Policy(
            name: NamespacedName(
                namespace: "namespace-\(number / Self.policiesPerNamespace)", name: "policy-\(100 + place)"),
            scope: .namespace, action: .allow,
            rules: [.init(clauses: [.init(matches: [match])])])
    }

    func builder() -> SnapshotBuilder {
        var builder = SnapshotBuilder(node: "node-0")
        for pod in 0..<size { builder.insert(workload(pod)) }
        for number in 0..<(size / 10) { builder.insert(service(number)) }
        for number in 0..<policyCount { builder.insert(policy(number)) }
        return builder
    }
}

/// Has callgrind count what `body` does, after a first time that is not counted.
func count(_ what: String, in world: World, times: Int, _ body: (Int) -> Void) {
    body(times)
    callgrind_begin()
    for time in 0..<times { body(time) }
    unsafe callgrind_end("\(what), \(world.size) workloads/\(times)")
}

for size in CommandLine.arguments.dropFirst().compactMap({ Int($0) }) {
    let world = World(size: size)
    var builder = world.builder()
    var snapshot = builder.snapshot()
    var generator = SeededGenerator(seed: 5)
    let pods = (0...200).map { _ in Int.random(in: 0..<world.size, using: &generator) }
    guard let source = snapshot.workload(at: NetworkAddress(network: "", address: World.address(ofPod: 0)))
    else { fatalError("the mesh is empty") }

    // None: all others are elsewhere, also in a mesh of ten.
    let held = HeldPods()
    count("decision to a workload", in: world, times: 200) { time in
        var trace = Trace.off
        let target = SocketAddress(World.address(ofPod: pods[time]), 8080)
        guard
            case .tunnel = outbound(
                from: source, at: World.address(ofPod: 0), to: target, held: held, snapshot: snapshot,
                randomness: &generator, trace: &trace)
        else { fatalError("\(target) is not reached") }
    }
    count("decision to a service", in: world, times: 200) { time in
        var trace = Trace.off
        let target = SocketAddress(World.address(ofService: pods[time] / 10), 80)
        guard
            case .tunnel = outbound(
                from: source, at: World.address(ofPod: 0), to: target, held: held, snapshot: snapshot,
                randomness: &generator, trace: &trace)
        else { fatalError("\(target) is not reached") }
    }
    // What the node looks up besides for one that comes in: its client, and the service that it may have meant.
    count("decision about a client, 50 policies", in: world, times: 200) { time in
        var trace = Trace.off
        let client = World.address(ofPod: pods[time])
        guard let peer = snapshot.workload(at: NetworkAddress(network: "", address: client)),
            snapshot.service(NamespacedName(namespace: source.workload.namespace, name: "service-0.example"))
                != nil
        else { fatalError("\(client) is not known") }
        let request = InboundRequest(
            authority: "10.0.0.0:8080", peer: peer.identity, source: client, local: World.address(ofPod: 0))
        guard case .connect = inbound(request, workload: source, snapshot: snapshot, trace: &trace)
        else { fatalError("\(client) is refused") }
    }
    count("snapshot after a change of a pod elsewhere", in: world, times: 4) { time in
        builder.insert(world.workload(world.size - 1 - time, revision: time))
        snapshot = builder.snapshot()
    }
    count("snapshot after a change of a pod of the node", in: world, times: 4) { time in
        builder.insert(world.workload(time, revision: time))
        snapshot = builder.snapshot()
    }
    count("snapshot after a change of a policy", in: world, times: 4) { time in
        builder.insert(world.policy(world.policyCount - 2 - time, revision: time))
        snapshot = builder.snapshot()
    }
}
