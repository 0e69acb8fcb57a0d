import Address
import Documents

extension AuthorizationPolicy {
    /// Decodes a policy and refuses what Istio's schema and webhook refuse.
    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        // No spec is an empty one: an ALLOW without rules, which denies everything.
        let spec = top["spec"]?.fields()
        self.meta = meta
        selector = spec?["selector"].flatMap(WorkloadSelector.init)
        action = spec?["action"]?.choice(of: Action.self) ?? .allow
        provider = nil
        targets = []
        rules = []
        isDryRun = false
        if let text = meta.annotations["istio.io/dry-run"] {
            switch text {
            case "true", "True", "TRUE", "t", "T", "1": isDryRun = true
            case "false", "False", "FALSE", "f", "F", "0": break
            default:
                top.cursor.error(
                    "the annotation istio.io/dry-run has to be true or false, not \(quoted(text))")
            }
        }
        guard let spec else { return }
        decodeTargets(spec)
        decodeProvider(spec)
        let hasRules = spec["rules"] != nil
        if let cursor = spec["rules"] {
            rules = cursor.list { Rule($0, action: action) }
            if rules.count > 512 { cursor.error("at most 512 rules are possible") }
            warnAboutSplitRules(cursor)
        }
        if !hasRules, action == .deny || action == .custom {
            spec.cursor.error("a \(action.rawValue) policy without rules never does anything")
        }
        spec.close()
    }

    private mutating func decodeTargets(_ spec: Fields) {
        let cursors = spec["targetRefs"]?.elements() ?? []
        if cursors.count > 16 { spec["targetRefs"]?.error("at most 16 targets are possible") }
        let single = spec["targetRef"].map { [$0] } ?? []
        targets = (cursors + single).compactMap { cursor in
            guard let fields = cursor.fields(), let kind = fields.required("kind")?.nonEmptyString(),
                let name = fields.required("name")?.nonEmptyString()
            else { return nil }
            let group = fields["group"]?.string() ?? ""
            if let namespace = fields["namespace"], namespace.string() != "" {
                namespace.error("a target is in the policy's own namespace; naming one is not possible")
            }
            fields.close()
            switch (group, kind) {
            case ("", "Service"), ("core", "Service"), ("gateway.networking.k8s.io", "Gateway"),
                ("networking.istio.io", "ServiceEntry"), ("gateway.networking.k8s.io", "GatewayClass"):
                return TargetReference(group: group == "core" ? "" : group, kind: kind, name: name)
            default:
                cursor.error(
                    "a policy targets a Service, a ServiceEntry, a Gateway or a GatewayClass, not \(quoted(kind)) of \(quoted(group))"
                )
                return nil
            }
        }
        let ways = [selector != nil, !single.isEmpty, !cursors.isEmpty].count { $0 }
        if ways > 1 { spec.cursor.error("only one of selector, targetRef and targetRefs can be used") }
    }

    private mutating func decodeProvider(_ spec: Fields) {
        if let cursor = spec["provider"] {
            let fields = cursor.fields()
            provider = fields?["name"]?.nonEmptyString()
            fields?.close()
            if action != .custom { cursor.error("a provider belongs to the action CUSTOM") }
        }
        if action == .custom, provider == nil { spec.cursor.error("the action CUSTOM needs provider.name") }
    }

    /// `- from:` and `- to:` as two list items are two rules, either of which is enough: rarely what was meant.
    private func warnAboutSplitRules(_ cursor: Cursor) {
        guard action == .allow, rules.contains(where: { !$0.from.isEmpty }) else { return }
        for (rule, element) in zip(rules, cursor.elements())
        where rule.from.isEmpty && !(rule.to.isEmpty && rule.when.isEmpty) {
            element.warn(
                "this rule has no from and allows any source; rules are alternatives: to narrow another rule, write its parts into one list item"
            )
        }
    }
}

extension AuthorizationPolicy.Rule {
    fileprivate init?(_ cursor: Cursor, action: AuthorizationPolicy.Action) {
        guard let fields = cursor.fields() else { return nil }
        position = cursor.node.position
        from = Self.entries(fields, "from", "source") { AuthorizationPolicy.Source($0, action: action) }
        to = Self.entries(fields, "to", "operation", AuthorizationPolicy.Operation.init)
        when = fields["when"]?.list { AuthorizationPolicy.Condition($0, action: action) } ?? []
        if let list = fields["from"], from.count > 512 { list.error("at most 512 sources are possible") }
        fields.close()
    }

    /// `from: [{source: …}]` and `to: [{operation: …}]`; an empty list or entry is refused, for it could be read both
    /// as everything and as nothing.
    private static func entries<T>(
        _ fields: Fields, _ list: String, _ entry: String, _ decode: (Fields) -> T?
    ) -> [T] {
        guard let cursor = fields[list] else { return [] }
        let elements = cursor.elements()
        if elements.isEmpty { cursor.error("must not be empty; leave it out to ask for nothing") }
        return elements.compactMap { element in
            guard let outer = element.fields() else { return nil }
            defer { outer.close() }
            guard let inner = outer.required(entry)?.fields() else { return nil }
            defer { inner.close() }
            return decode(inner)
        }
    }
}

extension AuthorizationPolicy.Source {
    fileprivate init?(_ fields: Fields, action: AuthorizationPolicy.Action) {
        self.init()
        principals = fields.values("principals", "notPrincipals", Check.principal)
        requestPrincipals = fields.values("requestPrincipals", "notRequestPrincipals")
        namespaces = fields.values("namespaces", "notNamespaces")
        serviceAccounts = fields.values("serviceAccounts", "notServiceAccounts", Check.serviceAccount)
        trustDomains = fields.values("trustDomains", "notTrustDomains", Check.trustDomain)
        ipBlocks = fields.values("ipBlocks", "notIpBlocks", Check.prefix)
        remoteIPBlocks = fields.values("remoteIpBlocks", "notRemoteIpBlocks", Check.prefix)
        if self == AuthorizationPolicy.Source() {
            fields.cursor.error("at least one attribute has to be set")
        }
        if !serviceAccounts.isEmpty, !principals.isEmpty || !namespaces.isEmpty {
            fields.cursor.error("serviceAccounts cannot be combined with namespaces or principals")
        }
        if serviceAccounts.any.count > 16 || serviceAccounts.none.count > 16 {
            fields.cursor.error("at most 16 service accounts are possible")
        }
        if action == .custom, !principals.isEmpty || !requestPrincipals.isEmpty || !namespaces.isEmpty {
            fields.cursor.error("the action CUSTOM is taken before principals and namespaces are known")
        }
    }

}

extension AuthorizationPolicy.Operation {
    fileprivate init?(_ fields: Fields) {
        self.init()
        hosts = fields.values("hosts", "notHosts")
        ports = fields.values("ports", "notPorts", Check.port)
        methods = fields.values("methods", "notMethods")
        paths = fields.values("paths", "notPaths", Check.path)
        if self == AuthorizationPolicy.Operation() {
            fields.cursor.error("at least one attribute has to be set")
        }
    }

}

extension AuthorizationPolicy.Condition {
    fileprivate init?(_ cursor: Cursor, action: AuthorizationPolicy.Action) {
        guard let fields = cursor.fields(), let keyCursor = fields.required("key") else { return nil }
        position = cursor.node.position
        let text = keyCursor.nonEmptyString()
        let key = text.flatMap(ConditionKey.init)
        let check: ((String) -> String?)? =
            switch key {
            case .sourceIP, .remoteIP, .destinationIP: Check.prefix
            case .destinationPort: Check.port
            case .sourcePrincipal: Check.principal
            case .sourceTrustDomain: Check.trustDomain
            case .sourceServiceAccount: Check.serviceAccount
            default: nil
            }
        values = fields.values("values", "notValues", check)
        fields.close()
        guard let text else { return nil }
        guard let key else {
            keyCursor.error(
                "\(quoted(text)) is no attribute of a request or connection" + Check.hint(forKey: text))
            return nil
        }
        self.key = key
        if values.isEmpty { cursor.error("values or notValues are needed") }
        if action == .custom {
            switch key {
            case .requestAuthPrincipal, .requestAuthAudiences, .requestAuthPresenter, .requestAuthClaim,
                .sourceNamespace, .sourcePrincipal:
                keyCursor.error("the action CUSTOM is taken before \(text) is known")
            default: break
            }
        }
        if key == .requestHeader("authorization"),
            values.any.contains(where: { $0.lowercased().hasPrefix("bearer") })
        {
            cursor.warn(
                "this asks that a token is there, not that it is valid: that takes a RequestAuthentication")
        }
    }
}

extension Fields {
    /// The two lists of an attribute; what is empty, or fails the check, is a problem.
    fileprivate func values(
        _ any: String, _ none: String, _ check: ((String) -> String?)? = nil
    ) -> AuthorizationPolicy.Values {
        AuthorizationPolicy.Values(any: list(any, check), none: list(none, check))
    }

    private func list(_ name: String, _ check: ((String) -> String?)?) -> [String] {
        guard let cursor = self[name] else { return [] }
        let elements = cursor.elements()
        if elements.isEmpty { cursor.error("must not be empty; leave it out to ask for nothing") }
        return elements.compactMap { element in
            guard let text = element.nonEmptyString() else { return nil }
            if let problem = check?(text) {
                element.error(problem)
                return nil
            }
            return text
        }
    }
}

/// What single values have to look like; each answers nil, or what is wrong.
private enum Check {
    static func prefix(_ text: String) -> String? {
        Prefix(text) == nil ? "\(quoted(text)) is neither an IP address nor a range such as 10.0.0.0/8" : nil
    }

    static func port(_ text: String) -> String? {
        if let port = parsePort(text), port > 0 { return nil }
        return "\(quoted(text)) is no port between 1 and 65535"
    }

    static func principal(_ text: String) -> String? {
        text.hasPrefix("spiffe://")
            ? "a principal is written without spiffe://: \(quoted(String(text.dropFirst(9))))" : nil
    }

    static func serviceAccount(_ text: String) -> String? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        if text.contains("*") {
            return "service accounts are compared as they are; wildcards are not possible"
        }
        if text.utf8.count > 320 || parts.count > 2 || parts.contains(where: \.isEmpty) {
            return "a service account is NAME or NAMESPACE/NAME"
        }
        return nil
    }

    static func trustDomain(_ text: String) -> String? {
        text.contains("/") || text.dropFirst().dropLast().contains("*")
            ? "\(quoted(text)) is no trust domain; a wildcard stands at its beginning or end" : nil
    }

    /// Templates: `{*}` is one segment, `{**}` any number and comes last; beside them no `*`.
    static func path(_ text: String) -> String? {
        guard text.contains("{") || text.contains("}") else { return nil }
        var rest = text[...]
        var isLast = false
        while let open = rest.firstIndex(where: { $0 == "{" || $0 == "}" || $0 == "*" }) {
            let tail = rest[open...]
            if isLast { return "nothing with a wildcard may follow {**}" }
            if tail.hasPrefix("{**}") {
                isLast = true
                rest = tail.dropFirst(4)
            } else if tail.hasPrefix("{*}") {
                rest = tail.dropFirst(3)
            } else {
                return
                    "a template has {*} for one segment and {**} for the rest, and no other wildcards or braces"
            }
        }
        return nil
    }

    static func hint(forKey text: String) -> String {
        switch text {
        case "request.time":
            "; the time of day is none: a schedule takes an external authorizer (action CUSTOM) or a change of policy"
        case "destination.namespace", "destination.name", "destination.user":
            "; it existed in an older API, and a selector does the same"
        case _ where text.hasPrefix("request.header"): "; headers are written request.headers[name]"
        case _ where text.hasPrefix("request.auth.claim"): "; claims are written request.auth.claims[name]"
        default: ""
        }
    }
}
