import Address
import Documents
import Routing

extension VirtualService {
    /// Decodes a VirtualService and refuses what Istio's schema and webhook refuse.
    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let spec = top.required("spec")?.fields() else { return nil }
        self.meta = meta
        hosts = spec["hosts"]?.list { $0.routeHost(allowsWildcard: true) } ?? []
        gateways = spec["gateways"]?.strings() ?? []
        if gateways.isEmpty { gateways = ["mesh"] }
        exportTo = spec["exportTo"]?.strings() ?? []
        http = spec["http"]?.list { HTTPRule($0) } ?? []
        let names = hosts
        tls = spec["tls"]?.list { StreamRule($0, serverNamesOf: names) } ?? []
        tcp = spec["tcp"]?.list { StreamRule($0, serverNamesOf: nil) } ?? []
        check(spec)
        spec.close()
    }

    private func check(_ spec: Fields) {
        if Set(hosts).count < hosts.count { spec["hosts"]?.error("every host may be there once") }
        if hosts.contains("*"), gateways.contains("mesh") {
            spec["hosts"]?.error(
                "the host * is for gateways only; name the services, or gateways other than mesh")
        }
        if http.isEmpty, tls.isEmpty, tcp.isEmpty, spec["http"] == nil, spec["tls"] == nil, spec["tcp"] == nil
        {
            spec.cursor.error("at least one of http, tls and tcp is needed")
        }
        if hosts.isEmpty {
            if !tls.isEmpty || !tcp.isEmpty {
                spec.cursor.error("without hosts there can be http rules only")
            }
            if http.contains(where: { if case .delegate = $0.action { true } else { false } }) {
                spec["http"]?.error("a VirtualService that others delegate to cannot delegate itself")
            }
        }
        guard let rules = spec["http"]?.elements(), rules.count == http.count,
            let first = http.firstIndex(where: { $0.matches.isEmpty }), first + 1 < http.count
        else { return }
        rules[first + 1].warn("this rule is never reached: the one before it takes every request")
    }
}

extension VirtualService.HTTPRule {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        position = cursor.node.position
        name = fields["name"]?.string() ?? ""
        matches = fields["match"]?.list(VirtualService.HTTPMatch.init) ?? []
        rewrite = fields["rewrite"].flatMap(Self.rewrite)
        timeout = fields["timeout"]?.duration()
        if timeout == .zero { timeout = nil }
        retries = fields["retries"].flatMap(Self.retries)
        fault = fields["fault"].flatMap(Self.fault)
        cors = fields["corsPolicy"].flatMap(Self.cors)
        (requestHeaders, responseHeaders) = fields["headers"].map(Self.headers) ?? (.init(), .init())
        mirrors = Self.mirrors(fields)

        let actions = ["route", "redirect", "directResponse", "delegate"].filter { fields[$0] != nil }
        guard actions.count == 1, let action = Self.action(fields) else {
            if actions.count != 1 {
                cursor.error("exactly one of route, redirect, directResponse and delegate is needed")
            }
            return nil
        }
        self.action = action
        if actions == ["redirect"] || actions == ["directResponse"] {
            for name in ["fault", "rewrite"] where fields[name] != nil {
                fields[name]?.error("\(name) and \(actions[0]) cannot be combined")
            }
        }
        if rewrite?.authority != nil,
            requestHeaders.set.contains(where: { $0.name == ":authority" || $0.name == "host" })
        {
            fields["headers"]?.error("the authority is set both here and by rewrite.authority")
        }
        if case .redirect(let redirect) = action, case .matched? = redirect.path,
            matches.isEmpty
                || matches.contains(where: { if case .prefix? = $0.match.path { false } else { true } })
        {
            fields["redirect"]?.error("prefixRewrite needs matches that all have a uri with prefix")
        }
    }

    private static func action(_ fields: Fields) -> VirtualService.HTTPAction? {
        if let cursor = fields["route"] {
            let destinations = VirtualService.RouteDestination.list(cursor)
            return destinations.isEmpty ? nil : .forward(destinations)
        }
        if let cursor = fields["redirect"] { return redirect(cursor).map { .redirect($0) } }
        if let cursor = fields["directResponse"] { return response(cursor).map { .respond($0) } }
        guard let delegate = fields["delegate"]?.fields() else { return nil }
        defer { delegate.close() }
        guard let name = delegate.required("name")?.nonEmptyString() else { return nil }
        return .delegate(.init(name: name, namespace: delegate["namespace"]?.string() ?? ""))
    }

    private static func redirect(_ cursor: Cursor) -> Redirect? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var result = Redirect()
        if let status = fields["redirectCode"] {
            guard let value = status.integer() else { return nil }
            guard [301, 302, 303, 307, 308].contains(value) else {
                status.error("\(value) is none of 301, 302, 303, 307 and 308")
                return nil
            }
            result.status = Int(value)
        }
        result.authority = fields["authority"]?.nonEmptyString()
        if let scheme = fields["scheme"] {
            result.scheme = scheme.nonEmptyString()
            if let text = result.scheme, text != "http", text != "https" {
                scheme.error("a scheme is http or https")
            }
        }
        let uri = fields["uri"]
        let prefix = fields["prefixRewrite"]
        if uri != nil, prefix != nil { cursor.error("uri and prefixRewrite cannot be combined") }
        if let text = uri?.nonEmptyString() { result.path = .full(text) }
        if let text = prefix?.nonEmptyString() { result.path = .matched(text) }
        let port = fields["port"]
        let derived = fields["derivePort"]
        if port != nil, derived != nil { cursor.error("port and derivePort cannot be combined") }
        if let number = port?.port() { result.port = .number(number) }
        switch derived?.nonEmptyString() {
        case "FROM_PROTOCOL_DEFAULT": result.port = .protocolDefault
        case "FROM_REQUEST_PORT": result.port = .request
        case nil: break
        default: derived?.error("FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT is possible")
        }
        if result.authority == nil, result.scheme == nil, result.path == nil, port == nil, derived == nil {
            cursor.error(
                "at least one of uri, prefixRewrite, authority, scheme, port and derivePort is needed")
        }
        return result
    }

    private static func response(_ cursor: Cursor) -> DirectResponse? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        guard let status = fields.required("status")?.integer(in: 200...600) else { return nil }
        var result = DirectResponse(status: Int(status))
        guard let bodyCursor = fields["body"], let body = bodyCursor.fields() else { return result }
        defer { body.close() }
        if body["string"] != nil, body["bytes"] != nil {
            bodyCursor.error("only one of string and bytes can be used")
        }
        if let text = body["string"]?.string() { result.body = Array(text.utf8) }
        if let cursor = body["bytes"], let text = cursor.string() {
            if let decoded = bytes(ofBase64: text) {
                result.body = decoded
            } else {
                cursor.error("this is not base64")
            }
        }
        if result.body.count >= 1 << 20 {
            bodyCursor.error("a body of \(result.body.count) bytes is too large; below 1 MiB is possible")
        } else if result.body.count > 100_000 {
            bodyCursor.warn("a body of \(result.body.count) bytes is kept in the memory of every proxy")
        }
        return result
    }

    private static func rewrite(_ cursor: Cursor) -> Rewrite? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var result = Rewrite(authority: fields["authority"]?.nonEmptyString())
        if let text = fields["uri"]?.nonEmptyString() { result.path = .matched(text) }
        if let regexCursor = fields["uriRegexRewrite"], let regex = regexCursor.fields() {
            defer { regex.close() }
            if fields["uri"] != nil { cursor.error("uri and uriRegexRewrite cannot be combined") }
            if let match = regex.required("match")?.regex(), let text = regex.required("rewrite"),
                let replacement = text.string()
            {
                do throws(PatternError) {
                    try Pattern(match).check(replacement: replacement)
                    result.path = .regex(match, replacement: replacement)
                } catch { text.error("\(error)") }
            }
        }
        if result.path == nil, result.authority == nil {
            cursor.error("one of uri, authority and uriRegexRewrite is needed")
        }
        return result
    }

    private static func retries(_ cursor: Cursor) -> RetryPolicy? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        let attempts = fields["attempts"]?.integer(in: 0...1_000) ?? 0
        var result = RetryPolicy(attempts: Int(attempts))
        result.perTryTimeout = fields["perTryTimeout"]?.duration(atLeast: .milliseconds(1))
        if let condition = fields["retryOn"], let text = condition.string() {
            do throws(UnknownRetryCondition) {
                (result.conditions, result.statuses) = try RetryConditions.parse(text)
                if result.conditions.contains(.headers) {
                    condition.warn("retriable-headers has no effect: no field says which headers are meant")
                }
            } catch { condition.error("\(error)") }
        }
        result.usesRemoteLocalities = fields["retryRemoteLocalities"]?.boolean() ?? false
        if result.usesRemoteLocalities {
            fields["retryRemoteLocalities"]?.warn(
                "not enforced yet: another try goes to whichever endpoint is chosen")
        }
        result.avoidsPreviousEndpoints = fields["retryIgnorePreviousHosts"]?.boolean() ?? true
        if let backoff = fields["backoff"]?.duration(atLeast: .milliseconds(1)) { result.backoff = backoff }
        if attempts == 0, fields["perTryTimeout"] != nil || fields["retryOn"] != nil {
            cursor.error("with attempts 0 nothing is retried: perTryTimeout and retryOn mean nothing")
        }
        return result
    }

    private static func fault(_ cursor: Cursor) -> Fault? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var result = Fault()
        if let delayCursor = fields["delay"], let delay = delayCursor.fields() {
            defer { delay.close() }
            if let exponential = delay["exponentialDelay"] {
                exponential.error("Istio has not implemented this")
            }
            let whole = delay["percent"]?.integer(in: 0...100).map { Fraction(percent: Double($0)) }
            let share = delay["percentage"]?.percent() ?? whole ?? Fraction(percent: 0)
            if let duration = delay.required("fixedDelay")?.duration(atLeast: .milliseconds(1)) {
                result.delay = Fault.Delay(duration, share: share)
            }
            if share.millionths == 0 { delayCursor.warn("without a percentage no request is delayed") }
        }
        if let abortCursor = fields["abort"], let abort = abortCursor.fields() {
            defer { abort.close() }
            if let http2 = abort["http2Error"] { http2.error("Istio has not implemented this") }
            let share = abort["percentage"]?.percent() ?? Fraction(percent: 0)
            let status = abort["httpStatus"]?.integer(in: 200...599)
            let grpc = abort["grpcStatus"]?.choice(of: GRPCStatusCode.self)
            if abort["httpStatus"] != nil, abort["grpcStatus"] != nil {
                abortCursor.error("httpStatus and grpcStatus cannot be combined")
            } else if let status {
                result.abort = Fault.Abort(.http(Int(status)), share: share)
            } else if let grpc {
                result.abort = Fault.Abort(.grpc(grpc), share: share)
            } else {
                abortCursor.error("one of httpStatus and grpcStatus is needed")
            }
            if share.millionths == 0 { abortCursor.warn("without a percentage no request is aborted") }
        }
        if result.delay == nil, result.abort == nil { cursor.error("one of delay and abort is needed") }
        return result
    }

    private static func mirrors(_ fields: Fields) -> [Mirror] {
        let whole = fields["mirrorPercent"] ?? fields["mirror_percent"]
        let share =
            fields["mirrorPercentage"]?.percent()
            ?? whole?.integer(in: 0...100).map { Fraction(percent: Double($0)) } ?? .all
        if fields["mirror"] != nil, fields["mirrors"] != nil {
            fields["mirrors"]?.error("mirror and mirrors cannot be combined")
        }
        if let single = fields["mirror"] {
            return Destination(single).map { [Mirror($0, share: share)] } ?? []
        }
        return fields["mirrors"]?.list { cursor in
            guard let mirror = cursor.fields() else { return nil }
            defer { mirror.close() }
            let share = mirror["percentage"]?.percent() ?? .all
            return mirror.required("destination").flatMap { Destination($0) }.map { Mirror($0, share: share) }
        } ?? []
    }

    private static func cors(_ cursor: Cursor) -> CORSPolicy? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var result = CORSPolicy()
        result.allowOrigins = fields["allowOrigins"]?.list { $0.stringMatch() } ?? []
        // The older spelling: exact origins.
        result.allowOrigins += fields["allowOrigin"]?.strings().map { .exact($0) } ?? []
        result.allowMethods = fields["allowMethods"]?.strings() ?? []
        result.allowHeaders = fields["allowHeaders"]?.strings() ?? []
        result.exposeHeaders = fields["exposeHeaders"]?.strings() ?? []
        result.maxAge = fields["maxAge"]?.duration()
        result.allowCredentials = fields["allowCredentials"]?.boolean()
        if let cursor = fields["unmatchedPreflights"] {
            switch cursor.string() {
            case "FORWARD", "UNSPECIFIED": break
            case "IGNORE": result.forwardsUnmatchedPreflights = false
            default: cursor.error("FORWARD or IGNORE is possible")
            }
        }
        return result
    }

    fileprivate static func headers(_ cursor: Cursor) -> (
        request: HeaderOperations, response: HeaderOperations
    ) {
        guard let fields = cursor.fields() else { return (HeaderOperations(), HeaderOperations()) }
        defer { fields.close() }
        return (
            fields["request"].flatMap { operations($0, ofRequest: true) } ?? HeaderOperations(),
            fields["response"].flatMap { operations($0, ofRequest: false) } ?? HeaderOperations()
        )
    }

    private static func operations(_ cursor: Cursor, ofRequest: Bool) -> HeaderOperations? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        func values(_ cursor: Cursor?, allowsAuthority: Bool) -> [HeaderOperations.Value] {
            (cursor?.entries("a mapping of strings") ?? []).compactMap { entry in
                guard let value = entry.value.headerValue() else { return nil }
                if allowsAuthority, entry.key == ":authority" { return .init(entry.key, value) }
                return entry.value.headerName(entry.key).map { .init($0, value) }
            }
        }
        return HeaderOperations(
            set: values(fields["set"], allowsAuthority: ofRequest),
            add: values(fields["add"], allowsAuthority: false),
            remove: fields["remove"]?.list { cursor in cursor.string().flatMap { cursor.headerName($0) } }
                ?? [])
    }
}

extension VirtualService.HTTPMatch {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var match = RequestMatch()
        match.name = fields["name"]?.string() ?? ""
        switch fields["uri"]?.stringMatch(allowsEmptyPrefix: true) {
        case .exact(let text): match.path = .exact(text)
        case .prefix(let text): match.path = .prefix(text)
        case .regex(let text): match.path = .regex(text)
        case .present, nil: break
        }
        match.ignoresPathCase = fields["ignoreUriCase"]?.boolean() ?? false
        match.method = fields["method"]?.stringMatch()
        match.scheme = fields["scheme"]?.stringMatch()
        match.authority = fields["authority"]?.stringMatch()
        match.headers = fields["headers"]?.namedMatches(lowercasingNames: true) ?? []
        match.withoutHeaders = fields["withoutHeaders"]?.namedMatches(lowercasingNames: true) ?? []
        match.queryParameters = fields["queryParams"]?.namedMatches(lowercasingNames: false) ?? []
        match.port = fields["port"]?.port()
        match.sourceNamespace = fields["sourceNamespace"]?.nonEmptyString()
        match.sourceLabels = fields["sourceLabels"].map(Labels.decode) ?? [:]
        fields.ignore("statPrefix")
        self.match = match
        gateways = fields["gateways"]?.strings() ?? []
        position = cursor.node.position
    }
}

extension VirtualService.StreamRule {
    /// - Parameter hosts: of the VirtualService, which server names of `tls` are among; nil for `tcp`.
    fileprivate init?(_ cursor: Cursor, serverNamesOf hosts: [String]?) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        position = cursor.node.position
        if hosts != nil, fields["match"] == nil { cursor.error("a tls rule needs a match with sniHosts") }
        matches =
            fields["match"]?.list { cursor in
                guard let fields = cursor.fields() else { return nil }
                defer { fields.close() }
                var match = StreamRoute.Match()
                if let hosts {
                    let names = fields.required("sniHosts")
                    match.serverNames = names?.list { $0.routeHost(allowsWildcard: true) } ?? []
                    for name in match.serverNames
                    where !hosts.contains(where: { StreamTable.matches($0, name) || $0 == name }) {
                        names?.error("\(quoted(name)) is not among the hosts of the VirtualService")
                    }
                }
                match.destinationSubnets =
                    fields["destinationSubnets"]?.list { cursor in
                        guard let text = cursor.string() else { return nil }
                        if let prefix = Prefix(text) { return prefix }
                        cursor.error(
                            "\(quoted(text)) is neither an IP address nor a range such as 10.0.0.0/8")
                        return nil
                    } ?? []
                match.port = fields["port"]?.port()
                match.sourceNamespace = fields["sourceNamespace"]?.nonEmptyString()
                match.sourceLabels = fields["sourceLabels"].map(Labels.decode) ?? [:]
                return VirtualService.StreamMatch(match: match, gateways: fields["gateways"]?.strings() ?? [])
            } ?? []
        destinations = fields.required("route").map { VirtualService.RouteDestination.list($0) } ?? []
        guard !destinations.isEmpty else { return nil }
    }
}

extension VirtualService.RouteDestination {
    /// The destinations of a rule, those that get nothing left out.
    fileprivate static func list(_ cursor: Cursor) -> [Self] {
        let all = cursor.list { Self($0) }
        guard cursor.elements().count > 1 else {
            if all.isEmpty { cursor.error("at least one destination is needed") }
            return all
        }
        let sum = all.reduce(0) { $0 + UInt64($1.weight) }
        if sum == 0 { cursor.error("the weights sum up to 0") }
        if sum > UInt32.max { cursor.error("the weights sum up to more than \(UInt32.max)") }
        return all.filter { $0.weight > 0 }
    }

    private init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        guard let destination = fields.required("destination").flatMap({ Destination($0) }) else {
            return nil
        }
        self.destination = destination
        weight = fields["weight"]?.integer(in: 0...Int64(Int32.max)).map { UInt32($0) } ?? 0
        (requestHeaders, responseHeaders) =
            fields["headers"].map(VirtualService.HTTPRule.headers) ?? (HeaderOperations(), HeaderOperations())
        position = cursor.node.position
    }
}

extension Destination {
    /// Istio's `Destination`.
    init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        guard let host = fields.required("host")?.routeHost(allowsWildcard: false) else { return nil }
        self.init(host)
        subset = fields["subset"]?.nonEmptyString()
        if let port = fields["port"]?.fields() {
            self.port = port.required("number")?.port()
            port.close()
        }
    }
}
