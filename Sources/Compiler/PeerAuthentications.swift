import Documents
import Manifests
import Mesh

/// PeerAuthentication as policies: who has no identity is denied where plaintext is not taken.
///
/// Of each level (mesh, namespace, workload) the oldest counts; UNSET asks the level above, and without any answer
/// plaintext is taken. DISABLE is the same as PERMISSIVE: an enrolled workload uses the tunnel all the same.
struct PeerAuthenticationIndex {
    private(set) var policies: [Policy] = []
    private(set) var warnings: [Problem] = []

    private let staticStrict: NamespacedName
    private var isMeshStrict = false
    private var namespaceModes: [String: PeerAuthentication.Mode] = [:]
    /// Those for chosen workloads, the oldest first, with what they come to.
    private var workloadRules: [String: [(selector: WorkloadSelector, attached: NamespacedName?)]] = [:]

    init(_ index: ObjectIndex) {
        let rootNamespace = index.environment.rootNamespace
        staticStrict = NamespacedName(namespace: rootNamespace, name: "istio_converted_static_strict")
        let sorted = index.peerAuthentications.sorted { $0.meta.isOlder(than: $1.meta) }
        guard !sorted.isEmpty else { return }
        policies.append(
            Policy(
                name: staticStrict, scope: .workloadSelector, action: .deny,
                rules: [Policy.Rule(clauses: [.withoutIdentity])]))

        for object in sorted where !object.isForWorkloads {
            if namespaceModes[object.meta.namespace] == nil {
                namespaceModes[object.meta.namespace] = object.mode
            } else {
                warn(
                    object,
                    "an older PeerAuthentication without selector is there, and is the one that counts")
            }
        }
        isMeshStrict = namespaceModes[rootNamespace] == .strict
        for object in sorted where object.isForWorkloads {
            guard object.meta.namespace != rootNamespace else {
                warn(object, "with a selector it has no effect in the root namespace")
                continue
            }
            guard let selector = object.selector else { continue }
            let attached = attach(object)
            workloadRules[object.meta.namespace, default: []].append((selector, attached))
            let pods = index.pods[object.meta.namespace] ?? []
            if !pods.contains(where: { selector.matches($0.meta.labels) }) {
                warn(object, "it selects no Pod")
            }
        }
    }

    /// The policies that a workload has to name.
    func names(for labels: [String: String], in namespace: String) -> [NamespacedName] {
        if let rule = workloadRules[namespace]?.first(where: { $0.selector.matches(labels) }) {
            return rule.attached.map { [$0] } ?? []
        }
        return isStrict(namespace) ? [staticStrict] : []
    }

    /// The mode of a namespace's workloads that nothing else is said of.
    private func isStrict(_ namespace: String) -> Bool {
        switch namespaceModes[namespace] ?? .unset {
        case .strict: true
        case .permissive, .disable: false
        case .unset: isMeshStrict
        }
    }

    /// What a PeerAuthentication for chosen workloads attaches to them; makes the policy where it takes one.
    private mutating func attach(_ object: PeerAuthentication) -> NamespacedName? {
        let strictPorts = object.portModes.filter { $0.value == .strict }.keys.sorted()
        let exemptPorts = object.portModes.filter { $0.value == .permissive || $0.value == .disable }.keys
            .sorted()
        let isStrict =
            switch object.mode {
            case .strict: true
            case .permissive, .disable: false
            case .unset: self.isStrict(object.meta.namespace)
            }
        guard isStrict else {
            guard !strictPorts.isEmpty else { return nil }
            // One rule a port: any of them denies.
            return convert(
                object,
                strictPorts.map { port in
                    var match = Policy.Match.withoutIdentity
                    match.destinationPorts = [port]
                    return Policy.Rule(clauses: [Policy.Clause(matches: [match])])
                })
        }
        guard !exemptPorts.isEmpty else { return staticStrict }
        if object.mode == .unset, !object.portModes.values.contains(.permissive) {
            // Istio's own reading, kept because it errs on the safe side: with the mode inherited, DISABLE exempts
            // no port.
            warn(
                object,
                "ports \(exemptPorts.map(String.init).joined(separator: ", ")) stay strict: below an inherited STRICT, DISABLE exempts no port; PERMISSIVE does"
            )
            return staticStrict
        }
        // All clauses have to hold: no identity, and none of the exempt ports.
        let clauses = exemptPorts.map { port in
            var match = Policy.Match()
            match.notDestinationPorts = [port]
            return Policy.Clause(matches: [match])
        }
        return convert(object, [Policy.Rule(clauses: [.withoutIdentity] + clauses)])
    }

    private mutating func convert(_ object: PeerAuthentication, _ rules: [Policy.Rule]) -> NamespacedName {
        let name = NamespacedName(
            namespace: object.meta.namespace, name: "converted_peer_authentication_\(object.meta.name)")
        policies.append(Policy(name: name, scope: .workloadSelector, action: .deny, rules: rules))
        return name
    }

    private mutating func warn(_ object: PeerAuthentication, _ message: String) {
        let name = "PeerAuthentication \(object.meta.namespace)/\(object.meta.name)"
        warnings.append(Problem(.warning, at: object.meta.position, "\(name): \(message)"))
    }
}

extension Policy.Match {
    /// Callers without a certificate.
    fileprivate static var withoutIdentity: Policy.Match {
        var match = Policy.Match()
        match.notPrincipals = [.presence]
        return match
    }
}

extension Policy.Clause {
    fileprivate static var withoutIdentity: Policy.Clause { Policy.Clause(matches: [.withoutIdentity]) }
}
