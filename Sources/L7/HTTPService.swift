import Address
import EventLoop
import HTTP1
import HTTP2
import Linux
import Routing
import Tunnel

/// Who sends requests on a connection, as the program knows it.
public struct ClientContext: Sendable {
    public var address: SocketAddress?
    /// `spiffe://…`, where the client has proved one.
    public var identity: String?
    /// Of the connection to us, for the client's: `http` or `https`.
    public var scheme: String
    /// What a match may ask for besides the head.
    public var origin: RequestOrigin

    public init(
        address: SocketAddress? = nil, identity: String? = nil, scheme: String = "http",
        origin: RequestOrigin = RequestOrigin()
    ) {
        self.address = address
        self.identity = identity
        self.scheme = scheme
        self.origin = origin
    }
}

/// What a port's connections speak.
public enum PortProtocol: Hashable, Sendable {
    /// HTTP/1 or HTTP/2, whichever the client begins with.
    case http
    /// Nobody said: HTTP where the client begins with it, else bytes.
    case unknown
}

/// Told of each exchange when it is over.
public protocol ExchangeObserver: AnyObject {
    func exchangeEnded(_ record: ExchangeRecord)
}

/// What became of one request.
public struct ExchangeRecord: Sendable {
    public enum Version: String, Sendable {
        case http1 = "HTTP/1.1"
        case http2 = "HTTP/2"
    }

    public var client: ClientContext
    public var version: Version
    /// As it came, but for what was normalised in it.
    public var request: HeaderBlock
    /// 0 where the client had none.
    public var status: Int
    public var grpcStatus: Int?
    public var flags: ResponseFlags
    /// Of content.
    public var bytesReceived: UInt64
    public var bytesSent: UInt64
    public var duration: Duration
    /// Until the endpoint's answer began.
    public var upstreamTime: Duration?
    public var route: Route.Name?
    public var destination: Destination?
    public var endpoint: UpstreamEndpoint?
    public var attempts: Int
}

/// A service's port at the proxy, on one loop: takes its clients' connections, and sends their requests where the routes say.
public final class HTTPService {
    public struct Configuration: Sendable {
        public var http1 = HTTP1Limits.streaming
        public var http2 = HTTP2Configuration.proxied
        /// Put in place of an application's own `server`, as Istio's proxies do; nil leaves that alone.
        public var serverName: String? = "istio-envoy"
        /// How long a client of a port of unknown protocol may say nothing before it is taken for one that listens first.
        public var detectionDeadline = Duration.milliseconds(100)
        /// For a request's head, from its first byte to its last.
        public var headDeadline = Duration.seconds(60)
        /// While it drains, for a connection's first request to come.
        public var drainGrace = Duration.seconds(1)
        /// For a connection without a request.
        public var idleTimeout = Duration.seconds(3_600)
        /// For an exchange in which nothing moves. As long as for idle connections: there are streams and long polls that have nothing to say for
        /// many minutes, and Istio sets no limit at all.
        public var exchangeIdleTimeout = Duration.seconds(3_600)
        /// Content of a request that is kept for another try.
        public var retryBuffer = 64 << 10
        /// Content that a mirror may be behind.
        public var mirrorBuffer = 64 << 10
        /// For a mirror's answer, where the route has no timeout.
        public var mirrorTimeout = Duration.seconds(15)
        /// Copies under way at once to one destination.
        public var mirrorLimit = 1_024
        /// Requests under way at once.
        public var requestLimit = 16_384
        /// Where a route says nothing of retries.
        public var defaultRetries = RetryPolicy.meshDefault

        public init() {}
    }

    public let loop: EventLoop
    public let configuration: Configuration
    public let port: PortProtocol
    /// For requests that begin from here on.
    public var routes: RoutingTable
    public weak var observer: (any ExchangeObserver)?
    /// Takes connections that are not HTTP, with what was read of them and is not consumed. Without it they are closed.
    public var onBytes: ((any ByteChannel, ClientContext, [UInt8]) -> Void)?

    let resolver: any UpstreamResolver
    let metrics = L7Metrics.shared
    let random: () -> UInt64
    var activeRequests = 0
    /// Made ready for each request anew.
    var routeHead = RequestHead()
    private var http1: [ObjectIdentifier: HTTP1Downstream] = [:]
    private var http2: [ObjectIdentifier: HTTP2Session] = [:]
    private var detections: [ObjectIdentifier: Detection] = [:]
    private var isDraining = false

    /// - Parameter random: for weights, shares, endpoints and pauses.
    public init(
        loop: EventLoop, _ configuration: Configuration = Configuration(), port: PortProtocol = .http,
        routes: RoutingTable, resolver: any UpstreamResolver,
        random: @escaping () -> UInt64 = { UInt64.random(in: 0 ... .max) }
    ) {
        self.loop = loop
        self.configuration = configuration
        self.port = port
        self.routes = routes
        self.resolver = resolver
        self.random = random
    }

    /// Takes a client's connection. The service keeps it until it is over.
    public func serve(_ channel: any ByteChannel, from client: ClientContext) {
        let detection = Detection(self, channel, client)
        detections[ObjectIdentifier(detection)] = detection
        detection.start()
    }

    /// Lets every connection end with the request under way.
    public func drain() {
        isDraining = true
        for detection in Array(detections.values) { detection.drain() }
        for connection in http1.values { connection.drain() }
        for session in http2.values { session.drain() }
    }

    /// Connections of clients.
    public var connectionCount: Int { http1.count + http2.count + detections.count }

    // MARK: What connections report

    func detected(_ detection: Detection, _ kind: Detection.Kind?, early: [UInt8]) {
        guard detections.removeValue(forKey: ObjectIdentifier(detection)) != nil else { return }
        switch kind {
        case .http1?: HTTP1Downstream(self, detection.channel, detection.client).start(early: early)
        case .http2?:
            HTTP2Session(.server(self, detection.client), loop, detection.channel, configuration.http2)
                .start(early: early)
        case .bytes?:
            metrics.undetected.add()
            guard let onBytes else { return detection.channel.close() }
            onBytes(detection.channel, detection.client, early)
        case nil: break
        }
        // One request of it may still come: its client could not know.
        if isDraining, kind != nil { drain() }
    }

    func opened(_ connection: HTTP1Downstream) { http1[ObjectIdentifier(connection)] = connection }
    func ended(_ connection: HTTP1Downstream) { http1[ObjectIdentifier(connection)] = nil }
    func opened(_ session: HTTP2Session) { http2[ObjectIdentifier(session)] = session }
    func ended(_ session: HTTP2Session) { http2[ObjectIdentifier(session)] = nil }
}
