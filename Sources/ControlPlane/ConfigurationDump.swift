import Documents
import Mesh

extension ControlServer {
    /// The page `/config_dump`: what proxies are sent, for people and for `explain`.
    func configurationDump() -> Value {
        let resources = configuration.publication.resources
        return [
            "generation": .integer(Int64(configuration.generation)),
            "workloads": .list(resources.workloads.values.sorted { $0.uid < $1.uid }.map(Value.init(_:))),
            "services": .list(resources.services.values.sorted { $0.key < $1.key }.map(Value.init(_:))),
            "policies": .list(resources.policies.values.sorted { $0.name < $1.name }.map(Value.init(_:))),
        ]
    }
}

extension Value {
    fileprivate init(_ workload: Workload) {
        self = [
            "uid": .string(workload.uid), "name": .string(workload.name),
            "namespace": .string(workload.namespace),
            "addresses": Value(workload.addresses.map(\.description)), "network": .string(workload.network),
            "protocol": .string(workload.tunnelProtocol == .hbone ? "HBONE" : "TCP"),
            "identity": .string(workload.identity.uri), "node": .string(workload.node),
            "status": .string(workload.status == .healthy ? "Healthy" : "Unhealthy"),
            "workloadName": .string(workload.workloadName), "canonicalName": .string(workload.canonicalName),
            "canonicalRevision": .string(workload.canonicalRevision),
            "networkMode": .string(workload.networkMode == .hostNetwork ? "HostNetwork" : "Standard"),
            "services": .object(
                workload.services.sorted { $0.key < $1.key }.map { entry in
                    Member(entry.key.description, Value(ports: entry.value))
                }),
            "authorizationPolicies": Value(workload.authorizationPolicies.map(\.description)),
        ]
    }

    fileprivate init(_ service: Service) {
        self = [
            "name": .string(service.name), "namespace": .string(service.namespace),
            "hostname": .string(service.hostname),
            "vips": Value(service.addresses.map { "\($0.network)/\($0.prefix)" }),
            "ports": Value(
                ports: Dictionary(
                    service.ports.map { ($0.servicePort, $0.targetPort) }, uniquingKeysWith: { a, _ in a })),
        ]
    }

    fileprivate init(_ policy: Policy) {
        let scope =
            switch policy.scope {
            case .global: "Global"
            case .namespace: "Namespace"
            case .workloadSelector: "WorkloadSelector"
            }
        self = [
            "name": .string(policy.name.name), "namespace": .string(policy.name.namespace),
            "action": .string(policy.action == .deny ? "Deny" : "Allow"), "scope": .string(scope),
            "dryRun": .boolean(policy.isDryRun),
            "rules": .list(
                policy.rules.map { rule in
                    .list(rule.clauses.map { clause in .list(clause.matches.map(Value.init(_:))) })
                }),
        ]
    }

    private init(_ match: Policy.Match) {
        let attributes: [(String, [String])] = [
            ("namespaces", match.namespaces.map(\.text)), ("notNamespaces", match.notNamespaces.map(\.text)),
            ("principals", match.principals.map(\.text)), ("notPrincipals", match.notPrincipals.map(\.text)),
            ("sourceIps", match.sourceIPs.map(\.description)),
            ("notSourceIps", match.notSourceIPs.map(\.description)),
            ("destinationIps", match.destinationIPs.map(\.description)),
            ("notDestinationIps", match.notDestinationIPs.map(\.description)),
            ("destinationPorts", match.destinationPorts.map(\.description)),
            ("notDestinationPorts", match.notDestinationPorts.map(\.description)),
            ("serviceAccounts", match.serviceAccounts.map { "\($0.namespace)/\($0.serviceAccount)" }),
            ("notServiceAccounts", match.notServiceAccounts.map { "\($0.namespace)/\($0.serviceAccount)" }),
        ]
        self = .object(attributes.filter { !$0.1.isEmpty }.map { Member($0.0, Value($0.1)) })
    }

    private init(ports: [UInt16: UInt16]) {
        self = .object(
            ports.sorted { $0.key < $1.key }.map { Member("\($0.key)", .integer(Int64($0.value))) })
    }
}

extension Policy.StringMatch {
    /// As it is written in a policy.
    fileprivate var text: String {
        switch self {
        case .exact(let text): text
        case .prefix(let text): text + "*"
        case .suffix(let text): "*" + text
        case .presence: "*"
        }
    }
}
