import Address
import Linux
import Mesh

/// What a waypoint tells about one HTTP request when it is over: the access log and the metrics both speak from this.
///
/// Texts of the client's may be of any length and hold anything; whoever writes them escapes and cuts. Nil is a field that was
/// not there, which is told apart from an empty one.
public struct RequestRecord: Sendable {
    /// When its head had come.
    public var start: WallClock
    public var client: ConnectionRecord.End
    /// The endpoint that the last try went to; without an address where none was chosen.
    public var destination: ConnectionRecord.End
    /// The one that was asked for, also where no endpoint of it was chosen.
    public var service: ServiceEntry?
    /// What stands for Envoy's cluster: see `clusterName`.
    public var cluster: String?

    public var method: String?
    /// As it came, with its query.
    public var path: String?
    public var authority: String?
    /// `HTTP/1.1` or `HTTP/2`.
    public var protocolName: String?
    public var isGRPC: Bool
    public var forwardedFor: String?
    public var userAgent: String?
    public var requestID: String?
    /// The name that the client's TLS asked for.
    public var requestedServerName: String?

    /// 0 where the client got none.
    public var status: Int
    /// Of gRPC's answers that had one.
    public var grpcStatus: Int?
    /// Envoy's short names with commas between them, or `-`.
    public var flags: String
    /// How the answer came about, in Envoy's words: `via_upstream`, `route_not_found`.
    public var details: String?
    /// Why the endpoint could not be reached.
    public var transportFailure: String?
    public var routeName: String?
    /// How often the request was sent to an endpoint.
    public var attempts: Int

    /// Content from the client and to it.
    public var bytesReceived: UInt64
    public var bytesSent: UInt64
    /// gRPC's messages, where they were counted.
    public var requestMessages: UInt64?
    public var responseMessages: UInt64?
    public var duration: Duration
    /// Until the endpoint's answer began; nil where none came.
    public var upstreamTime: Duration?

    /// Ours towards the endpoint.
    public var upstreamLocalAddress: SocketAddress?
    /// What the client called: the service's address.
    public var localAddress: SocketAddress?

    public init(
        start: WallClock, client: ConnectionRecord.End,
        destination: ConnectionRecord.End = .init(address: nil), service: ServiceEntry? = nil,
        cluster: String? = nil, method: String? = nil, path: String? = nil, authority: String? = nil,
        protocolName: String? = nil, isGRPC: Bool = false, forwardedFor: String? = nil,
        userAgent: String? = nil, requestID: String? = nil, requestedServerName: String? = nil,
        status: Int = 0, grpcStatus: Int? = nil, flags: String = "-", details: String? = nil,
        transportFailure: String? = nil, routeName: String? = nil, attempts: Int = 0,
        bytesReceived: UInt64 = 0, bytesSent: UInt64 = 0, requestMessages: UInt64? = nil,
        responseMessages: UInt64? = nil, duration: Duration = .zero, upstreamTime: Duration? = nil,
        upstreamLocalAddress: SocketAddress? = nil, localAddress: SocketAddress? = nil
    ) {
        self.start = start
        self.client = client
        self.destination = destination
        self.service = service
        self.cluster = cluster
        self.method = method
        self.path = path
        self.authority = authority
        self.protocolName = protocolName
        self.isGRPC = isGRPC
        self.forwardedFor = forwardedFor
        self.userAgent = userAgent
        self.requestID = requestID
        self.requestedServerName = requestedServerName
        self.status = status
        self.grpcStatus = grpcStatus
        self.flags = flags
        self.details = details
        self.transportFailure = transportFailure
        self.routeName = routeName
        self.attempts = attempts
        self.bytesReceived = bytesReceived
        self.bytesSent = bytesSent
        self.requestMessages = requestMessages
        self.responseMessages = responseMessages
        self.duration = duration
        self.upstreamTime = upstreamTime
        self.upstreamLocalAddress = upstreamLocalAddress
        self.localAddress = localAddress
    }

    /// What Istio calls a service's cluster at a waypoint: `inbound-vip|8080|http/v2|reviews.shop.svc.cluster.local`, and
    /// `http` alone without a subset. To be built once for a destination, not for each request.
    public static func clusterName(host: String, port: UInt16, subset: String? = nil) -> String {
        "inbound-vip|\(port)|http\(subset.map { "/" + $0 } ?? "")|\(host)"
    }
}
