import Address
import GRPC
import Linux
import Log
import Mesh
import Protobuf
import Wire

/// One proxy's stream of `AggregatedDiscoveryService/DeltaAggregatedResources`.
final class DiscoverySession: GRPCServerHandler {
    let caller: Caller
    let since = WallClock.now()
    let peerAddress: SocketAddress?
    /// What the proxy calls itself, from its first request.
    private(set) var description = ""

    private let call: GRPCServerCall
    private let registry: NodeRegistry
    private var stream: DeltaStream
    private var localPods: [LocalPod]
    /// When the change was made whose answer is awaited, by type.
    private var changedAt: [String: MonotonicTime] = [:]
    private static let logger = Logger(scope: "xds")
    /// Bytes of a text of the proxy's that are kept and logged.
    private static let textLimit = 1_024

    init(_ call: GRPCServerCall, _ caller: Caller, _ registry: NodeRegistry, _ publication: Publication) {
        self.call = call
        self.caller = caller
        self.registry = registry
        peerAddress = call.peerAddress
        stream = DeltaStream(caller.subscriber, publication)
        localPods = Self.localPods(of: caller, publication)
        registry.add(self)
        Self.logger.info(
            "proxy connected",
            ["proxy": caller, "peer": "\(peerAddress.map(String.init(describing:)) ?? "-")"])
    }

    private static func localPods(of caller: Caller, _ publication: Publication) -> [LocalPod] {
        caller.node.flatMap { publication.resources.localPods[$0] } ?? []
    }

    func status(of type: ResourceType) -> DeltaSubscription.Status? { stream.status(of: type) }

    /// Sends what is new for this proxy; ends the stream when it has left the configuration.
    ///
    /// - Parameter changedAt: when the change was there to be sent.
    func publish(_ publication: Publication, changedAt: MonotonicTime) {
        guard caller.isPart(of: publication.resources) else {
            return call.finish(GRPCStatus(.permissionDenied, "\(caller) is not part of the configuration"))
        }
        localPods = Self.localPods(of: caller, publication)
        for response in stream.publish(publication) {
            self.changedAt[response.typeURL] = changedAt
            send(response)
        }
    }

    /// Ends the stream, so that the proxy connects again, be it elsewhere.
    func end(_ reason: String) {
        call.finish(GRPCStatus(.unavailable, reason))
    }

    private func send(_ response: DeltaResponse) {
        if let type = ResourceType(typeURL: response.typeURL) {
            ControlMetrics.shared.pushes.with(type.shortName).add()
        }
        Self.logger.debug(
            "push",
            [
                "proxy": caller, "type": response.typeURL, "resources": response.resources.count,
                "removed": response.removed.count,
            ])
        call.send(response.serializedBytes())
    }

    // MARK: GRPCServerHandler

    func received(_ message: [UInt8], on call: GRPCServerCall) {
        let request: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
        do {
            request = try Envoy_Service_Discovery_V3_DeltaDiscoveryRequest(serializedBytes: message)
        } catch {
            return call.finish(GRPCStatus(.invalidArgument, "malformed request: \(error)"))
        }
        if request.hasNode, description.isEmpty {
            description = Self.shortened(request.node.id)
            if let claim = claim(request.node.metadata), claim != caller {
                let text = Self.shortened("\(claim)")
                return call.finish(
                    GRPCStatus(
                        .permissionDenied, "the proxy says it is \(text), and its credentials say \(caller)"))
            }
        }
        if request.typeURL == Warren_V1_CaptureReport.typeURL { return take(request.errorDetail.details) }
        var delta = DeltaRequest(request)
        delta.refusal = delta.refusal.map(Self.shortened)
        if let refusal = delta.refusal {
            let name = ResourceType(typeURL: delta.typeURL)?.shortName ?? "other"
            ControlMetrics.shared.rejects.with(name).add()
            Self.logger.limited(
                .seconds(1), .warn, "proxy refused resources",
                ["proxy": caller, "type": delta.typeURL, "reason": refusal])
        }
        if !delta.nonce.isEmpty, let changed = changedAt.removeValue(forKey: delta.typeURL) {
            ControlMetrics.shared.convergence.observe(
                Double((MonotonicTime.now() - changed).wholeMilliseconds) / 1_000)
        }
        if let response = stream.receive(delta) { send(response) }
    }

    /// Whom the proxy says that it is, if it does.
    private func claim(_ metadata: Google_Protobuf_Struct) -> Caller? {
        switch caller {
        case .node: metadata.text("NODE_NAME").map(Caller.node)
        case .waypoint(let name):
            metadata.text("GATEWAY_NAME").map {
                .waypoint(NamespacedName(namespace: metadata.text("NAMESPACE") ?? name.namespace, name: $0))
            }
        }
    }

    /// What became of pods, as the node says.
    private func take(_ details: [Google_Protobuf_Any]) {
        guard let node = caller.node else { return }
        for detail in details {
            do {
                var report = try CaptureReport(Warren_V1_CaptureReport(unpackingAny: detail))
                report.reason = Self.shortened(report.reason)
                registry.note(report, from: node, expecting: localPods)
                let fields: KeyValuePairs<String, LogValue> = [
                    "node": node, "pod": report.uid, "state": "\(report.state)",
                    "reason": report.reason,
                ]
                if report.state == .refused {
                    Self.logger.warn("pod is not captured", fields)
                } else {
                    Self.logger.info("capture report", fields)
                }
            } catch {
                Self.logger.limited(
                    .seconds(1), .warn, "unreadable capture report", ["node": node, "error": error])
            }
        }
    }

    private static func shortened(_ text: String) -> String {
        text.utf8.count <= textLimit ? text : String(decoding: text.utf8.prefix(textLimit), as: UTF8.self)
    }

    func halfClosed(_ call: GRPCServerCall) { call.finish(.ok) }

    func closed(_ call: GRPCServerCall, _ status: GRPCStatus) {
        registry.remove(self)
        Self.logger.info("proxy disconnected", ["proxy": caller, "status": status])
    }
}
