import Glibc  // links libm, which the rounding of shares is made of

/// A rule with what it says to do: the first rule of a host that has a match that holds is the one that counts.
public struct Route: Hashable, Sendable {
    /// Where it was written.
    public struct Name: Hashable, Sendable, CustomStringConvertible {
        /// `VirtualService shop/reviews`.
        public var object: String
        /// The rule's own name, or empty.
        public var rule: String
        /// Its place in the object, from 0.
        public var index: Int

        public init(object: String, rule: String = "", index: Int) {
            self.object = object
            self.rule = rule
            self.index = index
        }

        public var description: String {
            "\(object) rule \(index)" + (rule.isEmpty ? "" : " (\(rule))")
        }
    }

    public var name: Name
    /// Any of them; none at all is met by every request.
    public var matches: [RequestMatch]
    public var action: RouteAction
    public var requestHeaders = HeaderOperations()
    public var responseHeaders = HeaderOperations()
    public var cors: CORSPolicy?

    public init(_ name: Name, matches: [RequestMatch] = [], action: RouteAction) {
        self.name = name
        self.matches = matches
        self.action = action
    }
}

public enum RouteAction: Hashable, Sendable {
    case forward(Forwarding)
    case redirect(Redirect)
    case respond(DirectResponse)
}

/// An answer that the proxy gives itself.
public struct DirectResponse: Hashable, Sendable {
    public var status: Int
    public var body: [UInt8]

    public init(status: Int, body: [UInt8] = []) {
        self.status = status
        self.body = body
    }
}

/// Where requests go.
public struct Destination: Hashable, Sendable, CustomStringConvertible {
    /// The service's full name in DNS.
    public var host: String
    /// The service's port; nil for its only one.
    public var port: UInt16?
    /// A subset that a DestinationRule names.
    public var subset: String?

    public init(_ host: String, port: UInt16? = nil, subset: String? = nil) {
        self.host = host
        self.port = port
        self.subset = subset
    }

    public var description: String {
        host + (port.map { ":\($0)" } ?? "") + (subset.map { " subset \($0)" } ?? "")
    }
}

public struct WeightedDestination: Hashable, Sendable {
    public enum Target: Hashable, Sendable {
        case service(Destination)
        /// Its reference leads nowhere: its share of the requests is answered 500 (Gateway API, BackendRef).
        case unresolved(String)
    }

    public var target: Target
    public var weight: UInt32
    /// Applied after those of the route.
    public var requestHeaders = HeaderOperations()
    public var responseHeaders = HeaderOperations()
    /// In place of the request's authority, also of what the route rewrites it to (`:authority` or `Host` among a destination's
    /// `headers.request.set`).
    public var authority: String?

    public init(_ target: Target, weight: UInt32 = 1) {
        self.target = target
        self.weight = weight
    }

    public init(_ destination: Destination, weight: UInt32 = 1) {
        self.init(.service(destination), weight: weight)
    }
}

/// How a request goes on to a service.
public struct Forwarding: Hashable, Sendable {
    /// Shares of the sum of the weights, which is above zero; a single one takes everything.
    public var destinations: [WeightedDestination]
    public var rewrite: Rewrite?
    /// Of the whole request, retries included; nil for none.
    public var timeout: Duration?
    /// Nil stands for the mesh's default; `attempts` 0 for none.
    public var retries: RetryPolicy?
    public var fault: Fault?
    public var mirrors: [Mirror] = []

    public init(_ destinations: [WeightedDestination], rewrite: Rewrite? = nil) {
        self.destinations = destinations
        self.rewrite = rewrite
    }

    /// The destination that a random number falls on. Nil where no weight is above zero: such requests are answered 500 (Gateway API).
    public func destination(random: UInt64) -> WeightedDestination? { destinations.drawn(random) }
}

extension [WeightedDestination] {
    /// The one that a random number falls on: what the number leaves when it is divided by the sum of the weights, counted through them in
    /// order. A single one takes everything; nil where there is none, or several and no weight above zero.
    public func drawn(_ random: UInt64) -> WeightedDestination? {
        guard count > 1 else { return first }
        let sum = reduce(into: UInt64(0)) { $0 += UInt64($1.weight) }
        guard sum > 0 else { return nil }
        var left = random % sum
        for destination in self {
            if left < destination.weight { return destination }
            left -= UInt64(destination.weight)
        }
        return nil
    }
}

/// What becomes of path and authority on the way to the destination.
public struct Rewrite: Hashable, Sendable {
    public enum Path: Hashable, Sendable {
        /// In place of the prefix that matched; of the whole path where the match was exact or a regular expression
        /// (VirtualService).
        case matched(String)
        /// In place of the elements of the prefix that matched (Gateway API, ReplacePrefixMatch).
        case matchedElements(String)
        /// In place of the whole path (ReplaceFullPath).
        case full(String)
        /// Every match within the path, by `\1` groups (uriRegexRewrite).
        case regex(String, replacement: String)
    }

    public var path: Path?
    public var authority: String?

    public init(path: Path? = nil, authority: String? = nil) {
        self.path = path
        self.authority = authority
    }
}

public struct Redirect: Hashable, Sendable {
    public enum Port: Hashable, Sendable {
        /// What the request's authority has, except for the default port of a scheme that changes.
        case unchanged
        /// Left out where it is the scheme's default.
        case number(UInt16)
        /// None is written: FROM_PROTOCOL_DEFAULT.
        case protocolDefault
        /// The port that the request came to: FROM_REQUEST_PORT.
        case request
    }

    /// 301, 302, 303, 307 or 308.
    public var status: Int
    public var scheme: String?
    public var authority: String?
    public var path: Rewrite.Path?
    public var port: Port

    public init(
        status: Int = 301, scheme: String? = nil, authority: String? = nil, path: Rewrite.Path? = nil,
        port: Port = .unchanged
    ) {
        self.status = status
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.port = port
    }
}

/// What is done to the fields of a message: `remove`, then `set`, then `add`.
public struct HeaderOperations: Hashable, Sendable {
    public struct Value: Hashable, Sendable {
        public var name: String
        public var value: String

        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    public var set: [Value]
    public var add: [Value]
    public var remove: [String]

    public init(set: [Value] = [], add: [Value] = [], remove: [String] = []) {
        self.set = set
        self.add = add
        self.remove = remove
    }

    public var isEmpty: Bool { self.set.isEmpty && add.isEmpty && remove.isEmpty }
}

/// A share of requests, exact to a millionth.
public struct Fraction: Hashable, Sendable {
    /// 0 to 1,000,000.
    public var millionths: UInt32

    /// - Parameter percent: 0 to 100; what lies outside is cut off.
    public init(percent: Double) {
        millionths = percent > 0 ? UInt32((min(percent, 100) * 10_000).rounded()) : 0
    }

    public init(numerator: UInt32, denominator: UInt32) {
        millionths =
            denominator == 0
            ? 0 : UInt32(clamping: min(UInt64(numerator) * 1_000_000 / UInt64(denominator), 1_000_000))
    }

    public static let all = Fraction(percent: 100)

    public func includes(random: UInt64) -> Bool { random % 1_000_000 < millionths }
}

/// A copy of the request that nobody waits for.
public struct Mirror: Hashable, Sendable {
    public var destination: Destination
    public var share: Fraction

    public init(_ destination: Destination, share: Fraction = .all) {
        self.destination = destination
        self.share = share
    }
}

/// Failures made on purpose (HTTPFaultInjection): before routing, and not retried.
public struct Fault: Hashable, Sendable {
    public enum Failure: Hashable, Sendable {
        case http(Int)
        case grpc(GRPCStatusCode)
    }

    public struct Delay: Hashable, Sendable {
        public var duration: Duration
        public var share: Fraction

        public init(_ duration: Duration, share: Fraction) {
            self.duration = duration
            self.share = share
        }
    }

    public struct Abort: Hashable, Sendable {
        public var failure: Failure
        public var share: Fraction

        public init(_ failure: Failure, share: Fraction) {
            self.failure = failure
            self.share = share
        }
    }

    public var delay: Delay?
    public var abort: Abort?

    public init(delay: Delay? = nil, abort: Abort? = nil) {
        self.delay = delay
        self.abort = abort
    }
}

/// gRPC's status codes by their names in configurations.
public enum GRPCStatusCode: String, CaseIterable, Hashable, Sendable {
    case ok = "OK"
    case cancelled = "CANCELLED"
    case unknown = "UNKNOWN"
    case invalidArgument = "INVALID_ARGUMENT"
    case deadlineExceeded = "DEADLINE_EXCEEDED"
    case notFound = "NOT_FOUND"
    case alreadyExists = "ALREADY_EXISTS"
    case permissionDenied = "PERMISSION_DENIED"
    case resourceExhausted = "RESOURCE_EXHAUSTED"
    case failedPrecondition = "FAILED_PRECONDITION"
    case aborted = "ABORTED"
    case outOfRange = "OUT_OF_RANGE"
    case unimplemented = "UNIMPLEMENTED"
    case `internal` = "INTERNAL"
    case unavailable = "UNAVAILABLE"
    case dataLoss = "DATA_LOSS"
    case unauthenticated = "UNAUTHENTICATED"

    public var number: Int { Self.allCases.firstIndex(of: self) ?? 2 }
}

/// Who may use an answer from a page of another origin (Fetch Standard, CORS protocol).
public struct CORSPolicy: Hashable, Sendable {
    public var allowOrigins: [StringMatch] = []
    public var allowMethods: [String] = []
    public var allowHeaders: [String] = []
    public var exposeHeaders: [String] = []
    public var maxAge: Duration?
    public var allowCredentials: Bool?
    /// Whether a preflight request of another origin goes on to the service (FORWARD).
    public var forwardsUnmatchedPreflights = true

    public init() {}
}
