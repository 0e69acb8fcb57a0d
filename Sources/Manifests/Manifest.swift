import Documents

/// One object of a configuration, decoded and validated.
public enum Manifest: Hashable, Sendable {
    case namespace(NamespaceManifest)
    case node(NodeManifest)
    case pod(PodManifest)
    case service(ServiceManifest)
    case serviceAccount(ServiceAccountManifest)
    case secret(SecretManifest)
    case configMap(ConfigMapManifest)
    case deployment(DeploymentManifest)
    case endpointSlice(EndpointSliceManifest)
    case peerAuthentication(PeerAuthentication)
    case authorizationPolicy(AuthorizationPolicy)
    case gateway(GatewayManifest)
    case gatewayClass(GatewayClassManifest)
    case serviceEntry(ServiceEntryManifest)
    case workloadEntry(WorkloadEntryManifest)
    case virtualService(VirtualService)
    case destinationRule(DestinationRule)
    case httpRoute(HTTPRouteManifest)
    case grpcRoute(GRPCRouteManifest)
    case tcpRoute(StreamRouteManifest)
    case tlsRoute(StreamRouteManifest)
    case referenceGrant(ReferenceGrant)

    public var meta: ObjectMeta {
        switch self {
        case .namespace(let object): object.meta
        case .node(let object): object.meta
        case .pod(let object): object.meta
        case .service(let object): object.meta
        case .serviceAccount(let object): object.meta
        case .secret(let object): object.meta
        case .configMap(let object): object.meta
        case .deployment(let object): object.meta
        case .endpointSlice(let object): object.meta
        case .peerAuthentication(let object): object.meta
        case .authorizationPolicy(let object): object.meta
        case .gateway(let object): object.meta
        case .gatewayClass(let object): object.meta
        case .serviceEntry(let object): object.meta
        case .workloadEntry(let object): object.meta
        case .virtualService(let object): object.meta
        case .destinationRule(let object): object.meta
        case .httpRoute(let object): object.meta
        case .grpcRoute(let object): object.meta
        case .tcpRoute(let object): object.meta
        case .tlsRoute(let object): object.meta
        case .referenceGrant(let object): object.meta
        }
    }

    public var kind: Kind {
        switch self {
        case .namespace: .namespace
        case .node: .node
        case .pod: .pod
        case .service: .service
        case .serviceAccount: .serviceAccount
        case .secret: .secret
        case .configMap: .configMap
        case .deployment: .deployment
        case .endpointSlice: .endpointSlice
        case .peerAuthentication: .peerAuthentication
        case .authorizationPolicy: .authorizationPolicy
        case .gateway: .gateway
        case .gatewayClass: .gatewayClass
        case .serviceEntry: .serviceEntry
        case .workloadEntry: .workloadEntry
        case .virtualService: .virtualService
        case .destinationRule: .destinationRule
        case .httpRoute: .httpRoute
        case .grpcRoute: .grpcRoute
        case .tcpRoute: .tcpRoute
        case .tlsRoute: .tlsRoute
        case .referenceGrant: .referenceGrant
        }
    }

    public var key: ObjectKey { ObjectKey(kind: kind, namespace: meta.namespace, name: meta.name) }
}

/// What one file holds.
public struct ManifestFile: Sendable {
    public var manifests: [Manifest] = []
    /// Everything wrong with it and worth saying about it, by position.
    public var problems: [Problem] = []
    public var hasErrors: Bool { problems.contains { $0.severity == .error } }

    public init() {}

    /// Reads a file of YAML, or of JSON where its name says so.
    ///
    /// An object with an error is left out, the others are there: whether a file with errors is used at all is the
    /// caller's decision.
    public init(bytes: [UInt8], file: String, limits: DocumentLimits = DocumentLimits()) {
        let collected = Problems()
        var nodes: [Node] = []
        if file.hasSuffix(".json") {
            do throws(Problem) {
                nodes = [try Node(json: bytes, file: file, limits: limits)]
            } catch { collected.report(error) }
        } else {
            nodes = Node.documents(yaml: bytes, file: file, limits: limits, problems: collected)
        }
        for node in nodes { Self.decode(Cursor(node, problems: collected), into: &manifests, depth: 0) }
        problems = collected.items.sorted { $0.position < $1.position }
        if collected.omitted > 0 {
            problems.append(
                Problem(at: Position(file: file), "\(collected.omitted) more problems are left out"))
        }
        refuseRepetitions()
    }

    private static func decode(_ cursor: Cursor, into manifests: inout [Manifest], depth: Int) {
        guard let top = cursor.fields(), let versionCursor = top.required("apiVersion"),
            let versionText = versionCursor.nonEmptyString(), let kindCursor = top.required("kind"),
            let kindText = kindCursor.nonEmptyString()
        else { return }
        guard let version = APIVersion(versionText) else {
            versionCursor.error("an API version is group/version, or v1; got \(quoted(versionText))")
            return
        }
        if version.group.isEmpty, kindText == "List", depth == 0 {
            for item in top["items"]?.elements() ?? [] { decode(item, into: &manifests, depth: 1) }
            return
        }
        let kind = Kind.allCases.first { $0.rawValue == kindText && $0.group == version.group }
        guard let kind else {
            let consequence = UnsupportedKinds.consequence(group: version.group, kind: kindText)
            kindCursor.warn("\(kindText) (\(versionText)) is not supported: \(consequence)")
            return
        }
        guard kind.versions.contains(version.version) else {
            let right = kind.group.isEmpty ? kind.versions : kind.versions.map { "\(kind.group)/\($0)" }
            versionCursor.error(
                "\(kindText) is served as \(right.joined(separator: " or ")), not \(quoted(versionText))")
            return
        }
        guard let metaCursor = top.required("metadata"),
            let meta = ObjectMeta(metaCursor, kind: kind, position: cursor.node.position)
        else { return }
        let before = cursor.problems.errorCount
        let manifest = decode(kind, top, meta)
        top.close()
        if let manifest, cursor.problems.errorCount == before { manifests.append(manifest) }
    }

    private static func decode(_ kind: Kind, _ top: Fields, _ meta: ObjectMeta) -> Manifest? {
        switch kind {
        case .namespace: .namespace(NamespaceManifest(top, meta))
        case .node: .node(NodeManifest(top, meta))
        case .pod: .pod(PodManifest(top, meta))
        case .service: ServiceManifest(top, meta).map { .service($0) }
        case .serviceAccount: .serviceAccount(ServiceAccountManifest(top, meta))
        case .secret: .secret(SecretManifest(top, meta))
        case .configMap: .configMap(ConfigMapManifest(top, meta))
        case .deployment: DeploymentManifest(top, meta).map { .deployment($0) }
        case .endpointSlice: EndpointSliceManifest(top, meta).map { .endpointSlice($0) }
        case .peerAuthentication: PeerAuthentication(top, meta).map { .peerAuthentication($0) }
        case .authorizationPolicy: AuthorizationPolicy(top, meta).map { .authorizationPolicy($0) }
        case .gateway: GatewayManifest(top, meta).map { .gateway($0) }
        case .gatewayClass: GatewayClassManifest(top, meta).map { .gatewayClass($0) }
        case .serviceEntry: ServiceEntryManifest(top, meta).map { .serviceEntry($0) }
        case .workloadEntry: WorkloadEntryManifest(top, meta).map { .workloadEntry($0) }
        case .virtualService: VirtualService(top, meta).map { .virtualService($0) }
        case .destinationRule: DestinationRule(top, meta).map { .destinationRule($0) }
        case .httpRoute: HTTPRouteManifest(top, meta).map { .httpRoute($0) }
        case .grpcRoute: GRPCRouteManifest(top, meta).map { .grpcRoute($0) }
        case .tcpRoute: StreamRouteManifest(top, meta, hasHostnames: false).map { .tcpRoute($0) }
        case .tlsRoute: StreamRouteManifest(top, meta, hasHostnames: true).map { .tlsRoute($0) }
        case .referenceGrant: ReferenceGrant(top, meta).map { .referenceGrant($0) }
        }
    }

    /// Two objects of one name in a file: which is meant?
    private mutating func refuseRepetitions() {
        var first: [ObjectKey: Position] = [:]
        for manifest in manifests {
            if let earlier = first[manifest.key] {
                problems.append(
                    Problem(at: manifest.meta.position, "\(manifest.key) is already defined at \(earlier)"))
            } else {
                first[manifest.key] = manifest.meta.position
            }
        }
    }
}
