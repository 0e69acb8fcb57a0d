import Address
import Protobuf
import Routing

private let portChoices = EnumTable<Warren_V1_Redirect.PortChoice, Redirect.Port>([
    .unchanged: .unchanged, .protocolDefault: .protocolDefault, .request: .request,
])

extension Route.Name {
    init(_ wire: Warren_V1_RouteName) throws(WireError) {
        self.init(object: wire.object, rule: wire.rule, index: Int(wire.index))
    }
}

extension Warren_V1_RouteName {
    init(_ name: Route.Name) {
        self.init()
        object = name.object
        rule = name.rule
        index = UInt32(clamping: name.index)
    }
}

extension Route {
    init(_ wire: Warren_V1_Route) throws(WireError) {
        let action: RouteAction
        switch wire.action {
        case .forward(let wire):
            action = .forward(try within("forward") { () throws(WireError) in try Forwarding(wire) })
        case .redirect(let wire):
            action = .redirect(try within("redirect") { () throws(WireError) in try Redirect(wire) })
        case .respond(let wire):
            action = .respond(
                try within("respond") { () throws(WireError) in
                    let status = try number(wire.status, 200...600, "status")
                    guard wire.body.count < 1 << 20 else {
                        throw WireError("body", "\(wire.body.count) bytes, expected below 1 MiB")
                    }
                    return DirectResponse(status: status, body: wire.body)
                })
        case nil: throw WireError("action", "missing, or of a kind that is not supported")
        }
        self.init(
            try Name(wire.name),
            matches: try wire.matches.converted("matches") { (wire) throws(WireError) in
                try RequestMatch(wire)
            },
            action: action)
        requestHeaders = try within("request_headers") { () throws(WireError) in
            try HeaderOperations(wire.requestHeaders)
        }
        responseHeaders = try within("response_headers") { () throws(WireError) in
            try HeaderOperations(wire.responseHeaders)
        }
        if wire.hasCors { cors = try within("cors") { () throws(WireError) in try CORSPolicy(wire.cors) } }
    }
}

extension Warren_V1_Route {
    init(_ route: Route) {
        self.init()
        name = Warren_V1_RouteName(route.name)
        matches = route.matches.map { Warren_V1_RequestMatch($0) }
        switch route.action {
        case .forward(let forwarding): forward = Warren_V1_Forwarding(forwarding)
        case .redirect(let target): redirect = Warren_V1_Redirect(target)
        case .respond(let response):
            respond.status = UInt32(clamping: response.status)
            respond.body = response.body
        }
        if !route.requestHeaders.isEmpty { requestHeaders = Warren_V1_HeaderOperations(route.requestHeaders) }
        if !route.responseHeaders.isEmpty {
            responseHeaders = Warren_V1_HeaderOperations(route.responseHeaders)
        }
        if let policy = route.cors { cors = Warren_V1_CORSPolicy(policy) }
    }
}

// MARK: - Matches

extension StringMatch {
    init(_ wire: Warren_V1_TextMatch) throws(WireError) {
        switch wire.kind {
        case .exact(let text): self = .exact(text)
        case .prefix(let text): self = .prefix(text)
        case .regex(let text): self = .regex(text)
        case .present(true): self = .present
        case .present(false): throw WireError("present", "false is no kind of match")
        case nil: throw WireError("kind", "missing, or one that is not supported")
        }
    }
}

extension Warren_V1_TextMatch {
    init(_ match: StringMatch) {
        self.init()
        switch match {
        case .exact(let text): exact = text
        case .prefix(let text): prefix = text
        case .regex(let text): regex = text
        case .present: present = true
        }
    }
}

extension NamedMatch {
    fileprivate init(_ wire: Warren_V1_NamedMatch) throws(WireError) {
        guard !wire.name.isEmpty else { throw WireError("name", "missing") }
        self.init(wire.name, try within("value") { () throws(WireError) in try StringMatch(wire.value) })
    }
}

extension Warren_V1_NamedMatch {
    fileprivate init(_ match: NamedMatch) {
        self.init()
        name = match.name
        value = Warren_V1_TextMatch(match.value)
    }
}

extension RequestMatch {
    fileprivate init(_ wire: Warren_V1_RequestMatch) throws(WireError) {
        self.init()
        name = wire.name
        if wire.hasPath {
            switch wire.path.kind {
            case .exact(let text): path = .exact(text)
            case .prefix(let text): path = .prefix(text)
            case .elementPrefix(let text): path = .elementPrefix(text)
            case .regex(let text): path = .regex(text)
            case nil: throw WireError("path.kind", "missing, or one that is not supported")
            }
        }
        ignoresPathCase = wire.ignorePathCase
        func text(_ isThere: Bool, _ match: Warren_V1_TextMatch, _ field: String) throws(WireError)
            -> StringMatch?
        {
            isThere ? try within(field) { () throws(WireError) in try StringMatch(match) } : nil
        }
        method = try text(wire.hasMethod, wire.method, "method")
        scheme = try text(wire.hasScheme, wire.scheme, "scheme")
        authority = try text(wire.hasAuthority, wire.authority, "authority")
        headers = try wire.headers.converted("headers") { (wire) throws(WireError) in try NamedMatch(wire) }
        withoutHeaders = try wire.withoutHeaders.converted("without_headers") { (wire) throws(WireError) in
            try NamedMatch(wire)
        }
        queryParameters = try wire.queryParameters.converted("query_parameters") { (wire) throws(WireError) in
            try NamedMatch(wire)
        }
        port = try optionalPort(wire.port, "port")
        sourceNamespace = wire.hasSourceNamespace ? wire.sourceNamespace : nil
        sourceLabels = wire.sourceLabels
    }
}

extension Warren_V1_RequestMatch {
    fileprivate init(_ match: RequestMatch) {
        self.init()
        name = match.name
        switch match.path {
        case .exact(let text): path.exact = text
        case .prefix(let text): path.prefix = text
        case .elementPrefix(let text): path.elementPrefix = text
        case .regex(let text): path.regex = text
        case nil: break
        }
        ignorePathCase = match.ignoresPathCase
        if let value = match.method { method = Warren_V1_TextMatch(value) }
        if let value = match.scheme { scheme = Warren_V1_TextMatch(value) }
        if let value = match.authority { authority = Warren_V1_TextMatch(value) }
        headers = match.headers.map { Warren_V1_NamedMatch($0) }
        withoutHeaders = match.withoutHeaders.map { Warren_V1_NamedMatch($0) }
        queryParameters = match.queryParameters.map { Warren_V1_NamedMatch($0) }
        port = UInt32(match.port ?? 0)
        if let namespace = match.sourceNamespace { sourceNamespace = namespace }
        sourceLabels = match.sourceLabels
    }
}

// MARK: - Destinations

extension Destination {
    fileprivate init(_ wire: Warren_V1_Destination) throws(WireError) {
        guard !wire.host.isEmpty else { throw WireError("host", "missing") }
        self.init(
            wire.host, port: try optionalPort(wire.port, "port"),
            subset: wire.hasSubset ? wire.subset : nil)
    }
}

extension Warren_V1_Destination {
    fileprivate init(_ destination: Destination) {
        self.init()
        host = destination.host
        port = UInt32(destination.port ?? 0)
        if let name = destination.subset { subset = name }
    }
}

/// `destinations`, whose weights have a sum that can be counted.
func weightedDestinations(_ wire: [Warren_V1_WeightedDestination]) throws(WireError) -> [WeightedDestination]
{
    let result = try wire.converted("destinations") { (wire) throws(WireError) in
        let target: WeightedDestination.Target
        switch wire.target {
        case .service(let wire):
            target = .service(try within("service") { () throws(WireError) in try Destination(wire) })
        case .unresolved(let reason): target = .unresolved(reason)
        case nil: throw WireError("target", "missing, or of a kind that is not supported")
        }
        var result = WeightedDestination(target, weight: wire.weight)
        result.requestHeaders = try within("request_headers") { () throws(WireError) in
            try HeaderOperations(wire.requestHeaders)
        }
        result.responseHeaders = try within("response_headers") { () throws(WireError) in
            try HeaderOperations(wire.responseHeaders)
        }
        result.authority = try wire.hasAuthority ? headerValue(wire.authority, "authority") : nil
        return result
    }
    let sum = result.reduce(into: UInt64(0)) { $0 += UInt64($1.weight) }
    guard sum <= UInt32.max else { throw WireError("destinations", "the weights sum up to \(sum)") }
    return result
}

extension Warren_V1_WeightedDestination {
    init(_ destination: WeightedDestination) {
        self.init()
        switch destination.target {
        case .service(let target): service = Warren_V1_Destination(target)
        case .unresolved(let reason): unresolved = reason
        }
        weight = destination.weight
        if !destination.requestHeaders.isEmpty {
            requestHeaders = Warren_V1_HeaderOperations(destination.requestHeaders)
        }
        if !destination.responseHeaders.isEmpty {
            responseHeaders = Warren_V1_HeaderOperations(destination.responseHeaders)
        }
        if let value = destination.authority { authority = value }
    }
}

extension Forwarding {
    fileprivate init(_ wire: Warren_V1_Forwarding) throws(WireError) {
        self.init(try weightedDestinations(wire.destinations))
        if wire.hasRewrite {
            rewrite = try within("rewrite") { () throws(WireError) in
                Rewrite(
                    path: try pathRewrite(wire.rewrite.hasPath, wire.rewrite.path),
                    authority: try wire.rewrite.hasAuthority
                        ? headerValue(wire.rewrite.authority, "authority") : nil)
            }
        }
        if wire.hasTimeout { timeout = try Duration(wire.timeout, "timeout") }
        if wire.hasRetries {
            retries = try within("retries") { () throws(WireError) in try RetryPolicy(wire.retries) }
        }
        if wire.hasFault { fault = try within("fault") { () throws(WireError) in try Fault(wire.fault) } }
        mirrors = try wire.mirrors.converted("mirrors") { (wire) throws(WireError) in
            Mirror(
                try within("destination") { () throws(WireError) in try Destination(wire.destination) },
                share: try Fraction(wire.millionths))
        }
    }
}

extension Warren_V1_Forwarding {
    fileprivate init(_ forwarding: Forwarding) {
        self.init()
        destinations = forwarding.destinations.map { Warren_V1_WeightedDestination($0) }
        if let change = forwarding.rewrite {
            rewrite = Warren_V1_Rewrite()
            if let path = change.path { rewrite.path = Warren_V1_PathRewrite(path) }
            if let authority = change.authority { rewrite.authority = authority }
        }
        if let duration = forwarding.timeout { timeout = Google_Protobuf_Duration(duration) }
        if let policy = forwarding.retries { retries = Warren_V1_RetryPolicy(policy) }
        if let failure = forwarding.fault { fault = Warren_V1_Fault(failure) }
        mirrors = forwarding.mirrors.map { mirror in
            var wire = Warren_V1_Mirror()
            wire.destination = Warren_V1_Destination(mirror.destination)
            wire.millionths = mirror.share.millionths
            return wire
        }
    }
}

// MARK: - Actions

private func pathRewrite(_ isThere: Bool, _ wire: Warren_V1_PathRewrite) throws(WireError) -> Rewrite.Path? {
    guard isThere else { return nil }
    switch wire.kind {
    case .matched(let text): return .matched(text)
    case .matchedElements(let text): return .matchedElements(text)
    case .full(let text): return .full(text)
    case .regex(let regex): return .regex(regex.pattern, replacement: regex.replacement)
    case nil: throw WireError("path.kind", "missing, or one that is not supported")
    }
}

extension Warren_V1_PathRewrite {
    fileprivate init(_ path: Rewrite.Path) {
        self.init()
        switch path {
        case .matched(let text): matched = text
        case .matchedElements(let text): matchedElements = text
        case .full(let text): full = text
        case .regex(let pattern, let replacement):
            regex.pattern = pattern
            regex.replacement = replacement
        }
    }
}

extension Redirect {
    fileprivate init(_ wire: Warren_V1_Redirect) throws(WireError) {
        guard [301, 302, 303, 307, 308].contains(wire.status) else {
            throw WireError("status", "\(wire.status) is none of a redirect")
        }
        let choice: Port =
            wire.port == .number
            ? .number(try Wire.port(wire.portNumber, "port_number"))
            : try portChoices.model(wire.port, "port")
        self.init(
            status: Int(wire.status), scheme: try wire.hasScheme ? headerValue(wire.scheme, "scheme") : nil,
            authority: try wire.hasAuthority ? headerValue(wire.authority, "authority") : nil,
            path: try pathRewrite(wire.hasPath, wire.path), port: choice)
    }
}

extension Warren_V1_Redirect {
    fileprivate init(_ redirect: Redirect) {
        self.init()
        status = UInt32(clamping: redirect.status)
        if let text = redirect.scheme { scheme = text }
        if let text = redirect.authority { authority = text }
        if let rewrite = redirect.path { path = Warren_V1_PathRewrite(rewrite) }
        if case .number(let number) = redirect.port {
            port = .number
            portNumber = UInt32(number)
        } else {
            port = portChoices.wire(redirect.port)
        }
    }
}

/// A value that a header can have: a line end in it would begin another header.
private func headerValue(_ text: String, _ field: String) throws(WireError) -> String {
    guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }) else {
        throw WireError(field, "holds a control character")
    }
    return text
}

/// A name that a header can have: a token in lower case (RFC 9110 §5.1, RFC 9113 §8.2.1).
private func headerName(_ text: String, _ field: String) throws(WireError) -> String {
    let isToken = text.utf8.allSatisfy { byte in
        switch byte {
        case 0x30...0x39, 0x61...0x7a: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
    guard isToken, !text.isEmpty else {
        throw WireError(field, "\"\(text)\" is no name of a header in lower case")
    }
    return text
}

extension HeaderOperations {
    init(_ wire: Warren_V1_HeaderOperations) throws(WireError) {
        func value(_ wire: Warren_V1_HeaderValue) throws(WireError) -> Value {
            Value(try headerName(wire.name, "name"), try headerValue(wire.value, "value"))
        }
        self.init(
            set: try wire.set.converted("set") { (wire) throws(WireError) in try value(wire) },
            add: try wire.add.converted("add") { (wire) throws(WireError) in try value(wire) },
            remove: try wire.remove.converted("remove") { (name) throws(WireError) in try headerName(name, "")
            })
    }
}

extension Warren_V1_HeaderOperations {
    init(_ operations: HeaderOperations) {
        self.init()
        func wire(_ value: HeaderOperations.Value) -> Warren_V1_HeaderValue {
            var wire = Warren_V1_HeaderValue()
            wire.name = value.name
            wire.value = value.value
            return wire
        }
        self.set = operations.set.map(wire)
        add = operations.add.map(wire)
        remove = operations.remove
    }
}

extension Fraction {
    fileprivate init(_ millionths: UInt32) throws(WireError) {
        self.init(
            numerator: UInt32(try number(millionths, 0...1_000_000, "millionths")), denominator: 1_000_000)
    }
}

extension Fault {
    fileprivate init(_ wire: Warren_V1_Fault) throws(WireError) {
        self.init()
        if wire.hasDelay {
            delay = try within("delay") { () throws(WireError) in
                Delay(
                    try Duration(wire.delay.duration, "duration"), share: try Fraction(wire.delay.millionths))
            }
        }
        if wire.hasAbort {
            abort = try within("abort") { () throws(WireError) in
                let failure: Failure
                switch wire.abort.failure {
                case .httpStatus(let status): failure = .http(try number(status, 200...599, "http_status"))
                case .grpcStatus(let code):
                    failure = .grpc(GRPCStatusCode.allCases[try number(code, 0...16, "grpc_status")])
                case nil: throw WireError("failure", "missing, or of a kind that is not supported")
                }
                return Abort(failure, share: try Fraction(wire.abort.millionths))
            }
        }
    }
}

extension Warren_V1_Fault {
    fileprivate init(_ fault: Fault) {
        self.init()
        if let pause = fault.delay {
            delay.duration = Google_Protobuf_Duration(pause.duration)
            delay.millionths = pause.share.millionths
        }
        if let end = fault.abort {
            switch end.failure {
            case .http(let status): abort.httpStatus = UInt32(clamping: status)
            case .grpc(let code): abort.grpcStatus = UInt32(clamping: code.number)
            }
            abort.millionths = end.share.millionths
        }
    }
}

extension CORSPolicy {
    fileprivate init(_ wire: Warren_V1_CORSPolicy) throws(WireError) {
        self.init()
        allowOrigins = try wire.allowOrigins.converted("allow_origins") { (wire) throws(WireError) in
            try StringMatch(wire)
        }
        func values(_ texts: [String], _ field: String) throws(WireError) -> [String] {
            try texts.converted(field) { (text) throws(WireError) in try headerValue(text, "") }
        }
        allowMethods = try values(wire.allowMethods, "allow_methods")
        allowHeaders = try values(wire.allowHeaders, "allow_headers")
        exposeHeaders = try values(wire.exposeHeaders, "expose_headers")
        if wire.hasMaxAge { maxAge = try Duration(wire.maxAge, "max_age") }
        if wire.hasAllowCredentials { allowCredentials = wire.allowCredentials }
        forwardsUnmatchedPreflights = wire.forwardUnmatchedPreflights
    }
}

extension Warren_V1_CORSPolicy {
    fileprivate init(_ policy: CORSPolicy) {
        self.init()
        allowOrigins = policy.allowOrigins.map { Warren_V1_TextMatch($0) }
        allowMethods = policy.allowMethods
        allowHeaders = policy.allowHeaders
        exposeHeaders = policy.exposeHeaders
        if let age = policy.maxAge { maxAge = Google_Protobuf_Duration(age) }
        if let allowed = policy.allowCredentials { allowCredentials = allowed }
        forwardUnmatchedPreflights = policy.forwardsUnmatchedPreflights
    }
}

extension RetryPolicy {
    fileprivate init(_ wire: Warren_V1_RetryPolicy) throws(WireError) {
        var conditions: RetryConditions = []
        for name in wire.conditions {
            guard let condition = RetryConditions.names.first(where: { $0.0 == name })?.1 else {
                throw WireError("conditions", "\(UnknownRetryCondition(name: name))")
            }
            conditions.insert(condition)
        }
        let statuses = try wire.statuses.converted("statuses") { (status) throws(WireError) in
            try number(status, 100...599, "")
        }
        self.init(
            attempts: try number(wire.attempts, 0...1_000, "attempts"),
            perTryTimeout: wire.hasPerTryTimeout ? try Duration(wire.perTryTimeout, "per_try_timeout") : nil,
            conditions: conditions, statuses: Set(statuses))
        avoidsPreviousEndpoints = wire.avoidPreviousEndpoints
        usesRemoteLocalities = wire.useRemoteLocalities
        backoff = try Duration(wire.backoff, "backoff")
    }
}

extension Warren_V1_RetryPolicy {
    fileprivate init(_ policy: RetryPolicy) {
        self.init()
        attempts = UInt32(clamping: policy.attempts)
        if let timeout = policy.perTryTimeout { perTryTimeout = Google_Protobuf_Duration(timeout) }
        conditions = RetryConditions.names.filter { policy.conditions.contains($0.1) }.map(\.0)
        statuses = policy.statuses.sorted().map { UInt32(clamping: $0) }
        avoidPreviousEndpoints = policy.avoidsPreviousEndpoints
        useRemoteLocalities = policy.usesRemoteLocalities
        backoff = Google_Protobuf_Duration(policy.backoff)
    }
}
