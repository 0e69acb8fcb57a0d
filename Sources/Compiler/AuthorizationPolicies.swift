import Documents
import Manifests
import Mesh

/// AuthorizationPolicies as the L4 policies of the nodes, and which pods have to name them.
struct PolicyIndex {
    private(set) var policies: [Policy] = []
    private(set) var warnings: [Problem] = []
    private var selecting: [(source: AuthorizationPolicy, selector: WorkloadSelector, name: NamespacedName)] =
        []
    /// By waypoint.
    private var targeting: [NamespacedName: [NamespacedName]] = [:]
    private let rootNamespace: String

    init(_ index: ObjectIndex) {
        rootNamespace = index.environment.rootNamespace
        for object in index.authorizationPolicies {
            let waypoints = index.waypoints.targets(of: object, rootNamespace: rootNamespace)
            var conversion = PolicyConversion(object, index.environment, isWaypoints: !waypoints.isEmpty)
            let policy = conversion.convert()
            warnings += conversion.warnings
            guard let policy else { continue }
            policies.append(policy)
            for waypoint in waypoints { targeting[waypoint, default: []].append(policy.name) }
            guard policy.scope == .workloadSelector, let selector = object.selector else { continue }
            selecting.append((object, selector, policy.name))
            let candidates =
                object.meta.namespace == rootNamespace
                ? Array(index.pods.values.joined()) : index.pods[object.meta.namespace] ?? []
            if !candidates.contains(where: { selector.matches($0.meta.labels) }) {
                warnings.append(
                    Problem(
                        .warning, at: object.meta.position,
                        "AuthorizationPolicy \(policy.name) selects no Pod"))
            }
        }
    }

    /// The policies that target a waypoint, which its pods have to name.
    func names(for waypoint: NamespacedName) -> [NamespacedName] { (targeting[waypoint] ?? []).sorted() }

    /// The policies with a selector that are for a workload: of its namespace, and of the root namespace.
    func names(for labels: [String: String], in namespace: String) -> [NamespacedName] {
        selecting.filter { entry in
            [namespace, rootNamespace].contains(entry.source.meta.namespace) && entry.selector.matches(labels)
        }.map(\.name)
    }
}

/// One AuthorizationPolicy on its way to layer 4.
///
/// What a connection cannot tell (layer 7) and what a policy of the wire cannot say are resolved in one direction only:
/// an ALLOW never lets in more than was written, a DENY never less. In an ALLOW a rule with such a part is left out.
/// In a DENY the part is left out, so that the rest denies alone, and a rule that is left with nothing denies always.
struct PolicyConversion {
    private let source: AuthorizationPolicy
    private let environment: Environment
    private(set) var warnings: [Problem] = []
    /// It targets a waypoint that there is.
    private let isWaypoints: Bool

    init(_ source: AuthorizationPolicy, _ environment: Environment, isWaypoints: Bool = false) {
        self.source = source
        self.environment = environment
        self.isWaypoints = isWaypoints
    }

    private var isDeny: Bool { source.action == .deny }

    /// Nil when nodes have no part in it.
    mutating func convert() -> Policy? {
        guard source.targets.isEmpty || isWaypoints else {
            warn(
                "it targets the traffic of a service, or of a waypoint that does not exist: nothing enforces it"
            )
            return nil
        }
        switch source.action {
        case .allow, .deny: break
        case .audit:
            warn("AUDIT is not supported at layer 4: nothing is recorded by it")
            return nil
        case .custom:
            warn(
                "CUSTOM is not supported at layer 4: the external authorizer is NOT asked, and nothing is denied by it"
            )
            return nil
        }
        if source.isDryRun, !environment.publishesDryRuns {
            warn("policies in rehearsal are not sent to the nodes")
            return nil
        }
        let isRoot = source.meta.namespace == environment.rootNamespace
        let name = NamespacedName(namespace: source.meta.namespace, name: source.meta.name)
        var rules: [Policy.Rule] = []
        for (number, rule) in source.rules.enumerated() {
            rules += convert(rule, path: "spec.rules[\(number)]")
        }
        return Policy(
            name: name,
            scope: source.isForWorkloads || isWaypoints ? .workloadSelector : isRoot ? .global : .namespace,
            action: isDeny ? .deny : .allow, rules: rules, isDryRun: source.isDryRun)
    }

    /// The rules that one rule becomes: usually one, none where it cannot match, several where only that says it.
    private mutating func convert(_ rule: AuthorizationPolicy.Rule, path: String) -> [Policy.Rule] {
        let layer7 = rule.layer7Attributes
        if !layer7.isEmpty {
            let list = layer7.joined(separator: ", ")
            guard isDeny else {
                warn(
                    "\(list): not known at layer 4; the rule is left out, so that less is allowed", path,
                    rule.position)
                return []
            }
            warn(
                "\(list): not known at layer 4; the rule denies without looking at it, so more is denied",
                path, rule.position)
        }
        var context = AttributeConversion(isDeny: isDeny, namespace: source.meta.namespace)
        var clauses: [Policy.Clause] = []
        var canMatch = true
        func add(_ clause: PartialClause) {
            switch clause {
            case .always: break
            case .never: canMatch = false
            case .anyOf(let matches): clauses.append(Policy.Clause(matches: matches))
            }
        }
        if !rule.to.isEmpty { add(PartialClause(rule.to.map { context.match($0) })) }
        let sources = context.alternatives(rule.from)
        var conditions: [PartialClause] = []
        for condition in rule.when { conditions.append(PartialClause([context.match(condition)])) }
        for problem in context.problems { warn(problem, path, rule.position) }
        let before = clauses
        clauses = []
        conditions.forEach(add)
        guard canMatch else { return [] }
        return sources.map { Policy.Rule(clauses: before + $0 + clauses) }
    }

    private mutating func warn(_ message: String, _ path: String = "", _ position: Position? = nil) {
        let name = "AuthorizationPolicy \(source.meta.namespace)/\(source.meta.name)"
        warnings.append(
            Problem(.warning, at: position ?? source.meta.position, path: path, "\(name): \(message)"))
    }
}

extension AuthorizationPolicy.Rule {
    /// The attributes of a rule that only a request has.
    fileprivate var layer7Attributes: [String] {
        var names: Set<String> = []
        for source in from {
            if !source.requestPrincipals.isEmpty { names.insert("requestPrincipals") }
            // The address that a header or a PROXY line tells.
            if !source.remoteIPBlocks.isEmpty { names.insert("remoteIpBlocks") }
        }
        for operation in to {
            if !operation.hosts.isEmpty { names.insert("hosts") }
            if !operation.methods.isEmpty { names.insert("methods") }
            if !operation.paths.isEmpty { names.insert("paths") }
        }
        for condition in when where !condition.key.isLayer4 { names.insert(condition.key.spelling) }
        return names.sorted()
    }
}

extension ConditionKey {
    /// As it is written in a policy.
    fileprivate var spelling: String {
        switch self {
        case .sourceIP: "source.ip"
        case .remoteIP: "remote.ip"
        case .sourceNamespace: "source.namespace"
        case .sourcePrincipal: "source.principal"
        case .sourceServiceAccount: "source.serviceAccount"
        case .sourceTrustDomain: "source.trustDomain"
        case .destinationIP: "destination.ip"
        case .destinationPort: "destination.port"
        case .connectionSNI: "connection.sni"
        case .requestHeader(let name): "request.headers[\(name)]"
        case .requestAuthPrincipal: "request.auth.principal"
        case .requestAuthAudiences: "request.auth.audiences"
        case .requestAuthPresenter: "request.auth.presenter"
        case .requestAuthClaim(let names): "request.auth.claims" + names.map { "[\($0)]" }.joined()
        case .experimentalEnvoyFilter(let text): text
        }
    }
}
