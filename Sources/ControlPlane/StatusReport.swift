import Compiler
import Documents
import Linux
import Mesh

extension ControlServer {
    /// The page `/status`: nodes, pods, policies, certificates and what is wrong with the configuration.
    func statusReport(version: String, directory: String) -> Value {
        let resources = configuration.publication.resources
        return [
            "version": .string(version),
            "ready": .boolean(isReady),
            "startedAt": .string(startedAt.rfc3339),
            "configuration": [
                "directory": .string(directory),
                "generation": .integer(Int64(configuration.generation)),
                "loadedAt": .string(configuration.loadedAt.rfc3339),
                "objects": .integer(Int64(configuration.objectCount)),
                "errors": Value(configuration.errors.map(\.description)),
                "warnings": Value(configuration.warnings.map(\.description)),
            ],
            "authority": [
                "trustDomain": .string(settings.trustDomain),
                "notAfter": .string(WallClock(seconds: authority.certificate.notAfter).rfc3339),
                "issued": .integer(Int64(registry.issuedCount)),
                "refused": .integer(Int64(registry.refusedCount)),
            ],
            "nodes": .list(resources.nodes.sorted().map { nodeReport($0, resources) }),
            "waypoints": .list(
                resources.waypoints.sorted { $0.key < $1.key }.map { waypointReport($0.key, $0.value) }),
            "workloads": .list(
                resources.workloads.values.sorted { $0.uid < $1.uid }.map { workloadReport($0, resources) }),
            "policies": .list(resources.policies.values.sorted { $0.name < $1.name }.map(Self.policyReport)),
        ]
    }

    private func nodeReport(_ name: String, _ resources: MeshResources) -> Value {
        var members: [Value.Member] = [.init("name", .string(name))]
        if let namespace = resources.nodeNamespaces[name] {
            members.append(.init("networkNamespace", .string(namespace)))
        }
        members += sessionMembers(of: .node(name))
        members.append(.init("pods", .integer(Int64(resources.localPods[name]?.count ?? 0))))
        members.append(certificateMember(of: .node(name)))
        return .object(members)
    }

    private func waypointReport(_ name: NamespacedName, _ declaration: WaypointDeclaration) -> Value {
        var members: [Value.Member] = [
            .init("namespace", .string(name.namespace)), .init("name", .string(name.name)),
            .init("pods", Value(declaration.replicas.map(\.name))),
            .init("identities", Value(declaration.identities.map(\.uri).sorted())),
        ]
        members.append(.init("streams", .integer(Int64(registry.sessions(of: .waypoint(name)).count))))
        members += sessionMembers(of: .waypoint(name))
        members.append(certificateMember(of: .waypoint(name)))
        return .object(members)
    }

    /// What is known from the caller's stream, of several the latest.
    private func sessionMembers(of caller: Caller) -> [Value.Member] {
        let sessions = registry.sessions(of: caller)
        var members: [Value.Member] = [.init("connected", .boolean(!sessions.isEmpty))]
        if let latest = sessions.last {
            members.append(.init("since", .string(latest.since.rfc3339)))
            if let address = latest.peerAddress {
                members.append(.init("peerAddress", .string("\(address)")))
            }
            if !latest.description.isEmpty { members.append(.init("proxy", .string(latest.description))) }
            members.append(
                .init(
                    "types",
                    .object(
                        ResourceType.allCases.compactMap { type in
                            latest.status(of: type).map { .init(type.shortName, Self.typeReport($0)) }
                        })))
            let refusal = ResourceType.allCases.lazy.compactMap { latest.status(of: $0)?.refusal }.first
            if let refusal { members.append(.init("rejected", .string(refusal))) }
        }
        return members
    }

    private func certificateMember(of caller: Caller) -> Value.Member {
        let now = WallClock.now().seconds
        return .init(
            "certificates",
            .list(
                registry.certificates(of: caller).map { certificate in
                    [
                        "identity": .string(certificate.uri), "serialNumber": .string(certificate.serial),
                        "issuedAt": .string(certificate.issuedAt.rfc3339),
                        "notAfter": .string(WallClock(seconds: certificate.notAfter).rfc3339),
                        "remainingSeconds": .integer(max(0, certificate.notAfter - now)),
                    ]
                }))
    }

    private static func typeReport(_ status: DeltaSubscription.Status) -> Value {
        [
            "state": .string(status.refusal != nil ? "NACK" : status.isWaiting ? "WAITING" : "ACK"),
            "accepted": .integer(Int64(status.accepted)), "refused": .integer(Int64(status.refused)),
        ]
    }

    private func workloadReport(_ workload: Workload, _ resources: MeshResources) -> Value {
        let local = resources.localPods[workload.node]?.first {
            $0.namespace == workload.namespace && $0.name == workload.name
        }
        // One that speaks HBONE by itself is reached that way and captured by nobody.
        let isEnrolled = workload.tunnelProtocol == .hbone && !workload.nativeTunnel
        let report = local.flatMap { registry.report(of: $0.uid, on: workload.node) }
        let isWaypoint = resources.waypoints.contains { name, declaration in
            name.namespace == workload.namespace
                && declaration.replicas.contains { $0.name == workload.name }
        }
        let state =
            switch report?.state {
            case .captured: "captured"
            case .refused: "refused"
            case .removed, nil: isEnrolled ? "pending" : isWaypoint ? "waypoint" : "plain"
            }
        var members: [Value.Member] = [
            .init("uid", .string(workload.uid)), .init("namespace", .string(workload.namespace)),
            .init("name", .string(workload.name)), .init("node", .string(workload.node)),
            .init("addresses", Value(workload.addresses.map(\.description))),
            .init("serviceAccount", .string(workload.serviceAccount)),
            .init("enrolled", .boolean(isEnrolled)),
            .init("state", .string(state)),
        ]
        if let reason = report?.reason, !reason.isEmpty { members.append(.init("reason", .string(reason))) }
        return .object(members)
    }

    private static func policyReport(_ policy: Policy) -> Value {
        let scope =
            switch policy.scope {
            case .global: "GLOBAL"
            case .namespace: "NAMESPACE"
            case .workloadSelector: "WORKLOAD_SELECTOR"
            }
        return [
            "namespace": .string(policy.name.namespace), "name": .string(policy.name.name),
            "action": .string(policy.action == .deny ? "DENY" : "ALLOW"), "scope": .string(scope),
            "dryRun": .boolean(policy.isDryRun),
        ]
    }
}
