import Address
import Documents
import Routing

/// `networking.istio.io` VirtualService: how requests and connections to hosts are routed.
public struct VirtualService: Hashable, Sendable {
    /// A destination as written: its host may be a short name, of the VirtualService's namespace.
    public struct RouteDestination: Hashable, Sendable {
        public var destination: Destination
        public var weight: UInt32
        public var requestHeaders = HeaderOperations()
        public var responseHeaders = HeaderOperations()
        public var position: Position
    }

    public struct HTTPMatch: Hashable, Sendable {
        public var match: RequestMatch
        /// Empty stands for those of the VirtualService.
        public var gateways: [String]
        public var position: Position
    }

    public struct Delegate: Hashable, Sendable {
        public var name: String
        /// Empty stands for the VirtualService's own.
        public var namespace: String
    }

    public enum HTTPAction: Hashable, Sendable {
        case forward([RouteDestination])
        case redirect(Redirect)
        case respond(DirectResponse)
        case delegate(Delegate)
    }

    public struct HTTPRule: Hashable, Sendable {
        public var name: String
        public var matches: [HTTPMatch]
        public var action: HTTPAction
        public var rewrite: Rewrite?
        public var timeout: Duration?
        public var retries: RetryPolicy?
        public var fault: Fault?
        public var mirrors: [Mirror]
        public var cors: CORSPolicy?
        public var requestHeaders: HeaderOperations
        public var responseHeaders: HeaderOperations
        public var position: Position
    }

    public struct StreamMatch: Hashable, Sendable {
        public var match: StreamRoute.Match
        public var gateways: [String]
    }

    /// An entry of `tls` or `tcp`.
    public struct StreamRule: Hashable, Sendable {
        public var matches: [StreamMatch]
        public var destinations: [RouteDestination]
        public var position: Position
    }

    public var meta: ObjectMeta
    /// Empty for one that others delegate to.
    public var hosts: [String]
    /// `mesh` where none is named.
    public var gateways: [String]
    public var exportTo: [String]
    public var http: [HTTPRule]
    public var tls: [StreamRule]
    public var tcp: [StreamRule]
}
