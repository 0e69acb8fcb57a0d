import Mesh
import Wire

/// The client's side of the delta xDS protocol: what to send on a new stream, and what to answer to each response.
///
/// A value without I/O: responses in, requests out. Outlives its streams: what it knows stays while there is none, and a
/// new stream begins with the versions it has, so that only changes are sent.
public struct DeltaClient: Sendable {
    public typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    public typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    /// What a response led to.
    public struct Reception: Sendable {
        /// ACK or NACK; to be sent.
        public var reply = Request()
        /// Nil for a type that was never subscribed to. Acknowledged all the same, or the server would wait.
        public var type: ResourceType?
        /// Workloads, services or policies changed: the next snapshot differs.
        public var changesSnapshot = false
        /// `DiscoveredState.localPods` changed.
        public var changesLocalPods = false
        /// `DiscoveredState.waypointServices` changed.
        public var changesWaypointServices = false
        public var rejections: [Rejection] = []
    }

    /// A resource that was refused.
    public struct Rejection: Equatable, Sendable {
        public var name: String
        public var reason: String
    }

    /// How many refused resources one NACK names; the rest is counted.
    private static let namedRejections = 100

    public private(set) var state: DiscoveredState
    private let node: Envoy_Config_Core_V3_Node
    private let types: [ResourceType]
    private var answered: Set<ResourceType> = []
    private let isRestored: Bool
    private var reports: [String: CaptureReport] = [:]
    private var isConnected = false

    /// - Parameters:
    ///   - node: who asks; goes out with the first request of each type on a stream.
    ///   - types: what to subscribe to.
    ///   - restored: what an earlier run has saved; nil to begin with nothing.
    public init(
        node: NodeDescription, types: [ResourceType] = ResourceType.ofNode,
        restored: DiscoveredState? = nil
    ) {
        self.node = node.wire
        self.types = types
        state = restored ?? DiscoveredState(node: node.name)
        isRestored = restored != nil
    }

    /// Whether the data path may rely on it: every type was answered once, or an earlier run's knowledge is there.
    ///
    /// A first response of which a part was refused counts: the refused policies are closed, and one bad resource must not
    /// keep every node of a mesh from starting.
    public var isReady: Bool { isRestored || types.allSatisfy(answered.contains) }

    /// A snapshot of what is known.
    public mutating func snapshot() -> Snapshot { state.snapshot() }

    /// A stream is open.
    ///
    /// - Returns: the requests to send on it, in this order.
    public mutating func connected() -> [Request] {
        isConnected = true
        var requests = types.map { type in
            var request = Request()
            request.node = node
            request.typeURL = type.typeURL
            // No name to subscribe to means all of them.
            request.initialResourceVersions = state.versions[type] ?? [:]
            return request
        }
        if let request = reportRequest(reports.values.sorted { $0.uid < $1.uid }) { requests.append(request) }
        return requests
    }

    /// The stream ended. Everything known stays in use.
    public mutating func disconnected() {
        isConnected = false
    }

    /// Takes a response: good resources are applied, bad ones refused by name, removals come last.
    public mutating func received(_ response: Response) -> Reception {
        var reception = Reception()
        reception.reply.typeURL = response.typeURL
        reception.reply.responseNonce = response.nonce
        guard let type = ResourceType(typeURL: response.typeURL), types.contains(type) else {
            return reception
        }
        reception.type = type
        // The server is there: what it was told of pods that are gone need not be told again.
        reports = reports.filter { $0.value.state != .removed }
        // One without contents only says that what the client has is still current.
        for resource in response.resources where resource.hasResource {
            do throws(WireError) {
                try state.apply(type, resource)
            } catch {
                reception.rejections.append(Rejection(name: resource.name, reason: "\(error)"))
            }
        }
        for name in response.removedResources { state.remove(type, name) }
        answered.insert(type)

        let isChange = !response.resources.isEmpty || !response.removedResources.isEmpty
        reception.changesLocalPods = isChange && type == .localPods
        reception.changesWaypointServices = isChange && type == .waypointServices
        reception.changesSnapshot = isChange && (type == .addresses || type == .policies)
        if !reception.rejections.isEmpty {
            reception.reply.errorDetail.message = Self.message(reception.rejections)
        }
        return reception
    }

    private static func message(_ rejections: [Rejection]) -> String {
        var parts = rejections.prefix(namedRejections).map { "\($0.name): \($0.reason)" }
        if rejections.count > namedRejections {
            parts.append("and \(rejections.count - namedRejections) more")
        }
        return parts.joined(separator: "; ")
    }

    // MARK: Capture reports

    /// Notes what became of a local pod. A new stream says it again, for the control component may have restarted.
    ///
    /// - Returns: the request to send now; nil while there is no stream, or when nothing changed.
    public mutating func report(_ report: CaptureReport) -> Request? {
        guard reports[report.uid] != report else { return nil }
        reports[report.uid] = report
        return isConnected ? reportRequest([report]) : nil
    }

    private func reportRequest(_ reports: [CaptureReport]) -> Request? {
        guard !reports.isEmpty else { return nil }
        var request = Request()
        request.typeURL = Warren_V1_CaptureReport.typeURL
        request.errorDetail.details = reports.map {
            Google_Protobuf_Any(message: Warren_V1_CaptureReport($0))
        }
        return request
    }
}
