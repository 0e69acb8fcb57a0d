import Documents
import Routing

/// What the specs of all routes have.
struct RouteSpec {
    let fields: Fields
    let parents: [ParentReference]
    let hostnames: [String]

    init?(_ top: Fields, _ meta: ObjectMeta, hasHostnames: Bool = true) {
        top.ignore("status")
        guard let fields = top.required("spec")?.fields() else { return nil }
        self.fields = fields
        fields.ignore("useDefaultGateways")
        parents = fields["parentRefs"]?.list { ParentReference($0, namespace: meta.namespace) } ?? []
        hostnames = hasHostnames ? fields["hostnames"]?.list { $0.routeHost(allowsWildcard: true) } ?? [] : []
        if let cursor = fields["parentRefs"], parents.count > 32 {
            cursor.error("at most 32 parents are possible")
        }
        if let cursor = fields["rules"] {
            let count = cursor.elements().count
            if count > 16 { cursor.error("at most 16 rules are possible") }
        }
        if hasHostnames, hostnames.contains("*") {
            fields["hostnames"]?.error("leave hostnames out to mean all")
        }
    }
}

extension ParentReference {
    init?(_ cursor: Cursor, namespace: String) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        group = fields["group"]?.string() ?? "gateway.networking.k8s.io"
        if group == "core" { group = "" }
        kind = fields["kind"]?.nonEmptyString() ?? "Gateway"
        self.namespace = fields["namespace"]?.nonEmptyString() ?? namespace
        sectionName = fields["sectionName"]?.nonEmptyString()
        port = fields["port"]?.port()
        position = cursor.node.position
        guard let name = fields.required("name")?.nonEmptyString() else { return nil }
        self.name = name
    }
}

extension BackendReference {
    /// Which filters it can have beside itself.
    enum Filters { case none, headers }

    init?(_ cursor: Cursor, namespace: String, filters: Filters) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        group = fields["group"]?.string() ?? ""
        if group == "core" { group = "" }
        kind = fields["kind"]?.nonEmptyString() ?? "Service"
        self.namespace = fields["namespace"]?.nonEmptyString() ?? namespace
        port = fields["port"]?.port()
        weight = fields["weight"]?.integer(in: 0...1_000_000).map { UInt32($0) } ?? 1
        position = cursor.node.position
        requestHeaders = HeaderOperations()
        responseHeaders = HeaderOperations()
        if filters == .headers, let list = fields["filters"] {
            let decoded = RouteFilters(list, namespace: namespace)
            requestHeaders = decoded.requestHeaders
            responseHeaders = decoded.responseHeaders
            if decoded.redirect != nil || decoded.rewrite != nil || !decoded.mirrors.isEmpty
                || decoded.cors != nil
            {
                list.error("a backend's filters can change headers only; put the other ones on the rule")
            }
        }
        guard let name = fields.required("name")?.nonEmptyString() else { return nil }
        self.name = name
        if group.isEmpty, kind == "Service", port == nil, fields["port"] == nil {
            cursor.error("a Service needs a port")
        }
    }
}

extension GatewayRouteRule {
    init?(_ cursor: Cursor, namespace: String, isGRPC: Bool) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        position = cursor.node.position
        name = fields["name"]?.string() ?? ""
        matches =
            fields["matches"]?.list { isGRPC ? RequestMatch(grpc: $0) : RequestMatch(http: $0) } ?? []
        filters = fields["filters"].map { RouteFilters($0, namespace: namespace) } ?? RouteFilters()
        backends =
            fields["backendRefs"]?.list { BackendReference($0, namespace: namespace, filters: .headers) }
            ?? []
        if let persistence = fields["sessionPersistence"] {
            persistence.warn("sessions are not kept on one endpoint by it")
        }
        if !isGRPC {
            if let timeouts = fields["timeouts"]?.fields() {
                timeout = timeouts["request"]?.duration()
                backendTimeout = timeouts["backendRequest"]?.duration()
                if timeout == .zero { timeout = nil }
                if backendTimeout == .zero { backendTimeout = nil }
                if let whole = timeout, let part = backendTimeout, part > whole {
                    timeouts["backendRequest"]?.error("it is longer than the timeout of the whole request")
                }
                timeouts.close()
            }
            retries = fields["retry"].flatMap { Self.retries($0, timeout: backendTimeout) }
        }
        if filters.redirect != nil {
            if !backends.isEmpty { fields["backendRefs"]?.error("a rule that redirects has no backends") }
            if filters.rewrite != nil {
                fields["filters"]?.error("RequestRedirect and URLRewrite cannot be combined")
            }
        }
        let replacesPrefix = [filters.rewrite?.path, filters.redirect?.path].compactMap { $0 }.contains {
            if case .matchedElements = $0 { true } else { false }
        }
        if replacesPrefix,
            matches.isEmpty
                || matches.contains(where: { if case .elementPrefix? = $0.path { false } else { true } })
        {
            // A match without a path is one for the prefix "/", which has to be written out here.
            fields["filters"]?.error(
                "ReplacePrefixMatch needs matches that all have a path of type PathPrefix")
        }
    }

    private static func retries(_ cursor: Cursor, timeout: Duration?) -> RetryPolicy? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        let codes = fields["codes"]?.list { $0.integer(in: 400...599).map { Int($0) } } ?? []
        var result = RetryPolicy(
            attempts: Int(fields["attempts"]?.integer(in: 0...1_000) ?? 2), perTryTimeout: timeout,
            conditions: [.connectFailure, .refusedStream, .grpcUnavailable, .grpcCancelled, .statuses],
            statuses: Set(codes))
        if let backoff = fields["backoff"]?.duration(atLeast: .milliseconds(1)) { result.backoff = backoff }
        return result
    }
}

extension RequestMatch {
    /// HTTPRouteMatch. Without a path it is one for the prefix `/`.
    init?(http cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        self.init(path: .elementPrefix("/"))
        if let pathCursor = fields["path"], let path = pathCursor.fields() {
            let value = path["value"]
            let text = value?.string() ?? "/"
            let type = path["type"]
            switch type?.string() ?? "PathPrefix" {
            case "Exact": self.path = .exact(text)
            case "PathPrefix": self.path = .elementPrefix(text)
            case "RegularExpression": self.path = value?.regex().map { .regex($0) }
            default: type?.error("Exact, PathPrefix or RegularExpression is possible")
            }
            if type?.node.content != .string("RegularExpression"), !text.hasPrefix("/") {
                value?.error("a path begins with /")
            }
            path.close()
        }
        if let method = fields["method"]?.nonEmptyString() { self.method = .exact(method) }
        headers = fields["headers"].map { Self.named($0, isHeader: true) } ?? []
        queryParameters = fields["queryParams"].map { Self.named($0, isHeader: false) } ?? []
    }

    /// GRPCRouteMatch: a call of SERVICE's METHOD is a request for `/SERVICE/METHOD`.
    init?(grpc cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        self.init()
        headers = fields["headers"].map { Self.named($0, isHeader: true) } ?? []
        guard let methodCursor = fields["method"], let method = methodCursor.fields() else { return }
        defer { method.close() }
        let type = method["type"]
        switch type?.string() ?? "Exact" {
        case "Exact":
            switch (method["service"]?.nonEmptyString(), method["method"]?.nonEmptyString()) {
            case (let service?, let name?): path = .exact("/\(service)/\(name)")
            case (let service?, nil): path = .elementPrefix("/\(service)")
            case (nil, let name?): path = .regex("/[^/]+/\(Self.escaped(name))")
            case (nil, nil): methodCursor.error("at least one of service and method is needed")
            }
        case "RegularExpression":
            let service = method["service"]?.regex()
            let name = method["method"]?.regex()
            if service == nil, name == nil {
                methodCursor.error("at least one of service and method is needed")
            }
            path = .regex("/(?:\(service ?? "[^/]+"))/(?:\(name ?? "[^/]+"))")
        default: type?.error("Exact or RegularExpression is possible")
        }
    }

    private static func escaped(_ text: String) -> String {
        text.unicodeScalars.map { scalar in
            scalar.isASCII && !scalar.properties.isAlphabetic && !("0"..."9").contains(scalar)
                && scalar != "_"
                ? "\\\(scalar)" : String(scalar)
        }.joined()
    }

    /// `headers` and `queryParams`; of several for one name the first counts.
    private static func named(_ cursor: Cursor, isHeader: Bool) -> [NamedMatch] {
        var seen: Set<String> = []
        return cursor.list { cursor in
            guard let fields = cursor.fields() else { return nil }
            defer { fields.close() }
            let type = fields["type"]
            guard let nameCursor = fields.required("name"), let given = nameCursor.nonEmptyString(),
                let name = isHeader ? nameCursor.headerName(given) : given,
                let value = fields.required("value")
            else { return nil }
            let match: StringMatch?
            switch type?.string() ?? "Exact" {
            case "Exact": match = value.string().map { .exact($0) }
            case "RegularExpression": match = value.regex().map { .regex($0) }
            default:
                type?.error("Exact or RegularExpression is possible")
                match = nil
            }
            guard seen.insert(name).inserted else {
                nameCursor.warn("\(quoted(given)) is there already; this one is not looked at")
                return nil
            }
            return match.map { NamedMatch(name, $0) }
        }
    }
}

extension RouteFilters {
    init(_ cursor: Cursor, namespace: String) {
        var seen: Set<String> = []
        for element in cursor.elements() {
            guard let fields = element.fields(), let type = fields.required("type"),
                let name = type.nonEmptyString()
            else { continue }
            defer { fields.close() }
            if name != "RequestMirror", !seen.insert(name).inserted { type.error("\(name) is there twice") }
            switch name {
            case "RequestHeaderModifier":
                requestHeaders =
                    fields.required("requestHeaderModifier").map(Self.operations) ?? HeaderOperations()
            case "ResponseHeaderModifier":
                responseHeaders =
                    fields.required("responseHeaderModifier").map(Self.operations) ?? HeaderOperations()
            case "RequestRedirect": redirect = fields.required("requestRedirect").flatMap(Self.redirect)
            case "URLRewrite": rewrite = fields.required("urlRewrite").flatMap(Self.rewrite)
            case "RequestMirror":
                if let mirror = fields.required("requestMirror").flatMap({
                    MirrorReference($0, namespace: namespace)
                }) {
                    mirrors.append(mirror)
                }
            case "CORS": cors = fields.required("cors").flatMap(Self.cors)
            case "ExtensionRef":
                fields.ignore("extensionRef")
                type.error("no extension is known here (InvalidKind)")
            default: type.error("\(quoted(name)) is no filter that Warren knows")
            }
        }
    }

    private static func operations(_ cursor: Cursor) -> HeaderOperations {
        guard let fields = cursor.fields() else { return HeaderOperations() }
        defer { fields.close() }
        func values(_ cursor: Cursor?) -> [HeaderOperations.Value] {
            cursor?.list { cursor in
                guard let fields = cursor.fields() else { return nil }
                defer { fields.close() }
                guard let nameCursor = fields.required("name"), let given = nameCursor.nonEmptyString(),
                    let name = nameCursor.headerName(given),
                    let value = fields.required("value")?.headerValue()
                else { return nil }
                return .init(name, value)
            } ?? []
        }
        return HeaderOperations(
            set: values(fields["set"]), add: values(fields["add"]),
            remove: fields["remove"]?.list { cursor in cursor.string().flatMap { cursor.headerName($0) } }
                ?? [])
    }

    private static func path(_ cursor: Cursor) -> Rewrite.Path? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        guard let type = fields.required("type"), let name = type.nonEmptyString() else { return nil }
        switch name {
        case "ReplaceFullPath": return fields.required("replaceFullPath")?.string().map { .full($0) }
        case "ReplacePrefixMatch":
            return fields.required("replacePrefixMatch")?.string().map { .matchedElements($0) }
        default:
            type.error("ReplaceFullPath or ReplacePrefixMatch is possible")
            return nil
        }
    }

    private static func redirect(_ cursor: Cursor) -> Redirect? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var result = Redirect(status: 302)
        if let scheme = fields["scheme"] {
            result.scheme = scheme.nonEmptyString()
            if let text = result.scheme, text != "http", text != "https" {
                scheme.error("a scheme is http or https")
            }
        }
        result.authority = fields["hostname"]?.routeHost(allowsWildcard: false)
        result.path = fields["path"].flatMap(path)
        if let port = fields["port"]?.port() {
            result.port = .number(port)
        } else {
            // A scheme that is named brings its own port; otherwise that of the listener is kept.
            result.port = result.scheme == nil ? .request : .protocolDefault
        }
        if let status = fields["statusCode"], let value = status.integer() {
            if [301, 302, 303, 307, 308].contains(value) {
                result.status = Int(value)
            } else {
                status.error("\(value) is none of 301, 302, 303, 307 and 308")
            }
        }
        return result
    }

    private static func rewrite(_ cursor: Cursor) -> Rewrite? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        return Rewrite(
            path: fields["path"].flatMap(path),
            authority: fields["hostname"]?.routeHost(allowsWildcard: false))
    }

    private static func cors(_ cursor: Cursor) -> CORSPolicy? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var result = CORSPolicy()
        result.allowOrigins = fields["allowOrigins"]?.strings().map(origin) ?? []
        result.allowMethods = fields["allowMethods"]?.strings() ?? []
        result.allowHeaders = fields["allowHeaders"]?.strings() ?? []
        result.exposeHeaders = fields["exposeHeaders"]?.strings() ?? []
        result.allowCredentials = fields["allowCredentials"]?.boolean()
        result.maxAge =
            fields["maxAge"]?.integer(in: 1...Int64(Int32.max)).map { .seconds($0) } ?? .seconds(5)
        return result
    }

    /// `https://*.example.com`: a star stands for one or more labels.
    private static func origin(_ text: String) -> StringMatch {
        guard text != "*", text.contains("*") else { return .exact(text) }
        return .regex(
            text.split(separator: "*", omittingEmptySubsequences: false).map { part in
                part.unicodeScalars.map { $0 == "." ? "\\." : String($0) }.joined()
            }.joined(separator: "[^/:]+"))
    }
}

extension MirrorReference {
    init?(_ cursor: Cursor, namespace: String) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        share = fields["percent"]?.integer(in: 0...100).map { Fraction(percent: Double($0)) } ?? .all
        if let fraction = fields["fraction"]?.fields() {
            let numerator = fraction.required("numerator")?.integer(in: 0...Int64(Int32.max)) ?? 0
            let denominator = fraction["denominator"]?.integer(in: 1...Int64(Int32.max)) ?? 100
            if fields["percent"] != nil { cursor.error("percent and fraction cannot be combined") }
            share = Fraction(numerator: UInt32(numerator), denominator: UInt32(denominator))
            fraction.close()
        }
        guard
            let backend = fields.required("backendRef").flatMap({
                BackendReference($0, namespace: namespace, filters: .none)
            })
        else { return nil }
        self.backend = backend
    }
}
