import Address
import Mesh
import TestSupport
import Testing

/// A builder that has come a long way knows what one does that was told the same at once.
struct SnapshotBuilderTests {
    /// Few of everything, so that things meet: names, addresses, services, policies of every scope.
    struct Configuration {
        var workloads: [String: Workload] = [:]
        var services: [NamespacedName: Service] = [:]
        var policies: [NamespacedName: Policy] = [:]

        mutating func change(_ builder: inout SnapshotBuilder, _ generator: inout SeededGenerator) {
            func any<Value>(_ values: [Value]) -> Value {
                values[Int.random(in: 0..<values.count, using: &generator)]
            }
            func some<Value>(_ values: [Value]) -> [Value] {
                values.filter { _ in Bool.random(using: &generator) }
            }
            let namespace = any(["a", "b"])
            switch Int.random(in: 0..<12, using: &generator) {
            case 0...4:
                let uid = any(["c//Pod/a/", "c/networking/WorkloadEntry/a/"]) + any(["1", "2", "3", "4"])
                let workload = Workload(
                    uid: uid, name: any(["x", "y"]), namespace: namespace,
                    addresses: some(Self.addresses) + some([Self.addresses[0]]),
                    tunnelProtocol: any([.none, .hbone]), node: any(["here", "elsewhere"]),
                    services: Dictionary(
                        some(Self.services).map { ($0, [80: UInt16.random(in: 1...9, using: &generator)]) }
                    ) { $1 },
                    authorizationPolicies: some(Self.policies), status: any([.healthy, .unhealthy]),
                    networkMode: any([.standard, .standard, .hostNetwork]))
                workloads[uid] = workload
                builder.insert(workload)
            case 5...6:
                let key = any(Self.services)
                var service = Service(
                    name: "s", namespace: key.namespace, hostname: key.name,
                    addresses: some(Self.prefixes).map { .init(network: "", prefix: $0) },
                    isCanonical: Bool.random(using: &generator), visibility: any([.everywhere, .namespace]))
                service.loadBalancing.allowsUnhealthy = Bool.random(using: &generator)
                services[key] = service
                builder.insert(service)
            case 7...8:
                let name = any(Self.policies)
                let policy = Policy(
                    name: name, scope: any([.global, .namespace, .workloadSelector]),
                    action: any([.allow, .deny]), rules: [], isDryRun: Bool.random(using: &generator))
                policies[name] = policy
                builder.insert(policy)
            case 9:
                let uid = any(Array(workloads.keys).sorted() + ["unknown"])
                workloads[uid] = nil
                builder.removeAddress(uid)
            case 10:
                let key = any(Self.services)
                services[key] = nil
                builder.removeAddress(key.description)
            default:
                let name = any(Self.policies)
                policies[name] = nil
                builder.removePolicy(name)
            }
        }

        /// In an order that has nothing to do with how it came about.
        func builder() -> SnapshotBuilder {
            var builder = SnapshotBuilder(node: "here")
            for policy in policies.values { builder.insert(policy) }
            for service in services.values { builder.insert(service) }
            for workload in workloads.values { builder.insert(workload) }
            return builder
        }

        static let addresses = (1...4).map { IPAddress(ipv4: 0x0a00_0000 + $0) }
        static let prefixes =
            addresses.map { Prefix($0) } + [8, 24, 31].compactMap { Prefix(addresses[1], length: $0) }
        static let services = names(["one.example", "two.example"])
        static let policies = names(["p", "q", "r"])

        private static func names(_ names: [String]) -> [NamespacedName] {
            ["a", "b"].flatMap { namespace in names.map { NamespacedName(namespace: namespace, name: $0) } }
        }
    }

    /// All that can be asked of a snapshot.
    static func answers(_ snapshot: Snapshot) -> [String] {
        func shown(_ entry: ServiceEntry?) -> String {
            guard let entry else { return "none" }
            return "\(entry.service) \(entry.endpoints.map { "\($0.workload.workload) \($0.ports)" })"
        }
        var answers = snapshot.allWorkloads.map { "\($0) \(snapshot.policySet(for: $0))" }
        answers += snapshot.allServices.map(shown)
        answers += snapshot.allPolicies.map { "\($0)" }
        for namespace in ["a", "b"] {
            for name in ["x", "y"] {
                answers.append(
                    snapshot.localWorkload(namespace: namespace, name: name)?.workload.uid ?? "none")
            }
            for key in Configuration.services {
                answers.append(shown(snapshot.service(key)))
                answers.append(shown(snapshot.service(hostname: key.name, from: namespace)))
            }
            for address in Configuration.addresses {
                let key = NetworkAddress(network: "", address: address)
                answers.append(snapshot.workload(at: key)?.workload.uid ?? "none")
                answers.append(shown(snapshot.service(at: key, from: namespace)))
            }
        }
        return answers
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `changes one by one come to the same as all at once, and leave earlier snapshots alone`(
        _ seed: UInt64
    ) {
        var generator = SeededGenerator(seed: seed)
        var configuration = Configuration()
        var builder = SnapshotBuilder(node: "here")
        var earlier: [(Snapshot, [String])] = []
        for _ in 0..<60 {
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                configuration.change(&builder, &generator)
            }
            let snapshot = builder.snapshot()
            var fresh = configuration.builder()
            let answers = Self.answers(snapshot)
            #expect(answers == Self.answers(fresh.snapshot()), "seed \(seed)")
            earlier.append((snapshot, answers))
        }
        for (snapshot, answers) in earlier { #expect(Self.answers(snapshot) == answers) }
    }

    @Test func `a change that a service does not concern leaves its endpoints as they are`() {
        var builder = SnapshotBuilder(node: "here")
        let key = Configuration.services[0]
        builder.insert(Service(name: "s", namespace: key.namespace, hostname: key.name))
        builder.insert(Workload(uid: "1", name: "x", namespace: "a", services: [key: [80: 8080]]))
        let before = builder.snapshot()
        builder.insert(Workload(uid: "2", name: "y", namespace: "a"))
        #expect(builder.snapshot().service(key) === before.service(key))
    }
}
