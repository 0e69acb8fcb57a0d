/// How a text is compared (Istio's StringMatch).
public enum StringMatch: Hashable, Sendable {
    case exact(String)
    case prefix(String)
    /// RE2; the whole text has to match.
    case regex(String)
    /// Whatever its value, it is there.
    case present
}

/// How a request's path, without its query, is compared.
public enum PathMatch: Hashable, Sendable {
    case exact(String)
    /// As text: `/static` is a prefix of `/staticfoo` (VirtualService).
    case prefix(String)
    /// Element by element: `/foo` is a prefix of `/foo` and `/foo/bar`, not of `/foobar` (Gateway API, PathPrefix).
    case elementPrefix(String)
    case regex(String)
}

/// A named value to compare: of a header, in lower case, or of a query parameter.
public struct NamedMatch: Hashable, Sendable {
    public var name: String
    public var value: StringMatch

    public init(_ name: String, _ value: StringMatch) {
        self.name = name
        self.value = value
    }
}

/// What a request has to be: everything that is set has to hold (HTTPMatchRequest; HTTPRouteMatch).
public struct RequestMatch: Hashable, Sendable {
    public var name = ""
    public var path: PathMatch?
    /// For exact and prefix paths only; a regular expression says it for itself.
    public var ignoresPathCase = false
    public var method: StringMatch?
    public var scheme: StringMatch?
    /// Compared with the authority as the client sent it, port included.
    public var authority: StringMatch?
    public var headers: [NamedMatch] = []
    /// None of these may hold. An absent header counts as an empty one, except where presence is asked for.
    public var withoutHeaders: [NamedMatch] = []
    /// Compared with the first value of the parameter, as it stands in the query.
    public var queryParameters: [NamedMatch] = []
    public var port: UInt16?
    public var sourceNamespace: String?
    public var sourceLabels: [String: String] = [:]

    public init(path: PathMatch? = nil, headers: [NamedMatch] = []) {
        self.path = path
        self.headers = headers
    }
}
