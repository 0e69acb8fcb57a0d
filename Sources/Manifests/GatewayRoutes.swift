import Documents
import Routing

/// `parentRefs` of a route: what it is attached to (Gateway API, ParentReference).
public struct ParentReference: Hashable, Sendable {
    public var group: String
    public var kind: String
    /// The route's own where none is named.
    public var namespace: String
    public var name: String
    public var sectionName: String?
    public var port: UInt16?
    public var position: Position

    public var isService: Bool { group.isEmpty && kind == "Service" }
}

/// Where requests go (BackendRef).
public struct BackendReference: Hashable, Sendable {
    public var group: String
    public var kind: String
    public var namespace: String
    public var name: String
    public var port: UInt16?
    public var weight: UInt32
    public var requestHeaders: HeaderOperations
    public var responseHeaders: HeaderOperations
    public var position: Position

    public var isService: Bool { group.isEmpty && kind == "Service" }
}

/// A copy of requests for a backend (HTTPRequestMirrorFilter).
public struct MirrorReference: Hashable, Sendable {
    public var backend: BackendReference
    public var share: Fraction
}

/// `filters` of a rule, whatever their order.
public struct RouteFilters: Hashable, Sendable {
    public var requestHeaders = HeaderOperations()
    public var responseHeaders = HeaderOperations()
    public var redirect: Redirect?
    public var rewrite: Rewrite?
    public var mirrors: [MirrorReference] = []
    public var cors: CORSPolicy?
}

/// A rule of an HTTPRoute or GRPCRoute.
public struct GatewayRouteRule: Hashable, Sendable {
    public var name: String
    /// Any of them; none stands for every request.
    public var matches: [RequestMatch]
    public var filters: RouteFilters
    public var backends: [BackendReference]
    public var timeout: Duration?
    public var backendTimeout: Duration?
    public var retries: RetryPolicy?
    public var position: Position
}

/// `gateway.networking.k8s.io` HTTPRoute.
public struct HTTPRouteManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    public var parents: [ParentReference]
    public var hostnames: [String]
    public var rules: [GatewayRouteRule]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        guard let spec = RouteSpec(top, meta) else { return nil }
        defer { spec.fields.close() }
        self.meta = meta
        parents = spec.parents
        hostnames = spec.hostnames
        // Without rules there is one for everything, which has no backend.
        rules =
            spec.fields["rules"]?.list { GatewayRouteRule($0, namespace: meta.namespace, isGRPC: false) }
            ?? []
    }
}

/// `gateway.networking.k8s.io` GRPCRoute: its matches are those of the requests that gRPC makes of calls.
public struct GRPCRouteManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    public var parents: [ParentReference]
    public var hostnames: [String]
    public var rules: [GatewayRouteRule]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        guard let spec = RouteSpec(top, meta) else { return nil }
        defer { spec.fields.close() }
        self.meta = meta
        parents = spec.parents
        hostnames = spec.hostnames
        rules =
            spec.fields["rules"]?.list { GatewayRouteRule($0, namespace: meta.namespace, isGRPC: true) } ?? []
    }
}

/// `gateway.networking.k8s.io` TCPRoute or TLSRoute.
public struct StreamRouteManifest: Hashable, Sendable {
    public struct Rule: Hashable, Sendable {
        public var name: String
        public var backends: [BackendReference]
        public var position: Position
    }

    public var meta: ObjectMeta
    public var parents: [ParentReference]
    /// Server names; of a TLSRoute only.
    public var hostnames: [String]
    public var rules: [Rule]

    init?(_ top: Fields, _ meta: ObjectMeta, hasHostnames: Bool) {
        guard let spec = RouteSpec(top, meta, hasHostnames: hasHostnames) else { return nil }
        defer { spec.fields.close() }
        self.meta = meta
        parents = spec.parents
        hostnames = spec.hostnames
        rules =
            spec.fields.required("rules")?.list { cursor in
                guard let fields = cursor.fields() else { return nil }
                defer { fields.close() }
                let backends =
                    fields.required("backendRefs")?.list {
                        BackendReference($0, namespace: meta.namespace, filters: .none)
                    } ?? []
                return Rule(
                    name: fields["name"]?.string() ?? "", backends: backends, position: cursor.node.position)
            } ?? []
    }
}

/// `gateway.networking.k8s.io` ReferenceGrant: which objects of other namespaces may name which ones of its own.
public struct ReferenceGrant: Hashable, Sendable {
    public struct Source: Hashable, Sendable {
        public var group: String
        public var kind: String
        public var namespace: String
    }

    public struct Target: Hashable, Sendable {
        public var group: String
        public var kind: String
        /// Nil stands for every name.
        public var name: String?
    }

    public var meta: ObjectMeta
    public var from: [Source]
    public var to: [Target]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let spec = top.required("spec")?.fields() else { return nil }
        defer { spec.close() }
        self.meta = meta
        from =
            spec.required("from")?.list { cursor in
                guard let fields = cursor.fields() else { return nil }
                defer { fields.close() }
                let group = fields["group"]?.string() ?? ""
                guard let kind = fields.required("kind")?.nonEmptyString(),
                    let namespace = fields.required("namespace")?.nonEmptyString()
                else { return nil }
                return Source(group: group, kind: kind, namespace: namespace)
            } ?? []
        to =
            spec.required("to")?.list { cursor in
                guard let fields = cursor.fields() else { return nil }
                defer { fields.close() }
                let group = fields["group"]?.string() ?? ""
                let name = fields["name"]?.nonEmptyString()
                return fields.required("kind")?.nonEmptyString().map {
                    Target(group: group, kind: $0, name: name)
                }
            } ?? []
        if from.isEmpty { spec["from"]?.error("at least one is needed") }
        if to.isEmpty { spec["to"]?.error("at least one is needed") }
    }
}
