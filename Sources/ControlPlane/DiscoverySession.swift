import Address
import GRPC
import Linux
import Log
import Mesh
import Protobuf
import Wire

/// One proxy's stream of `AggregatedDiscoveryService/DeltaAggregatedResources`.
final class DiscoverySession: GRPCServerHandler {
    let node: String
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

    init(_ call: GRPCServerCall, node: String, _ registry: NodeRegistry, _ publication: Publication) {
        self.call = call
        self.node = node
        self.registry = registry
        peerAddress = call.peerAddress
        stream = DeltaStream(node: node, publication)
        localPods = publication.resources.localPods[node] ?? []
        registry.add(self)
        Self.logger.info(
            "node connected",
            ["node": node, "peer": "\(peerAddress.map(String.init(describing:)) ?? "-")"])
    }

    func status(of type: ResourceType) -> DeltaSubscription.Status? { stream.status(of: type) }

    /// Sends what is new for this proxy; ends the stream when its node has left the configuration.
    ///
    /// - Parameter changedAt: when the change was there to be sent.
    func publish(_ publication: Publication, changedAt: MonotonicTime) {
        guard publication.resources.nodes.contains(node) else {
            return call.finish(GRPCStatus(.permissionDenied, "node \(node) is not part of the configuration"))
        }
        localPods = publication.resources.localPods[node] ?? []
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
                "node": node, "type": response.typeURL, "resources": response.resources.count,
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
            let claimed = Self.shortened(request.node.metadata.text("NODE_NAME") ?? node)
            guard claimed == node else {
                return call.finish(
                    GRPCStatus(
                        .permissionDenied,
                        "the proxy says it is on node \(claimed), and its credentials say \(node)"))
            }
        }
        if request.typeURL == Warren_V1_CaptureReport.typeURL { return take(request.errorDetail.details) }
        var delta = DeltaRequest(request)
        delta.refusal = delta.refusal.map(Self.shortened)
        if let refusal = delta.refusal {
            let name = ResourceType(typeURL: delta.typeURL)?.shortName ?? "other"
            ControlMetrics.shared.rejects.with(name).add()
            Self.logger.limited(
                .seconds(1), .warn, "node refused resources",
                ["node": node, "type": delta.typeURL, "reason": refusal])
        }
        if !delta.nonce.isEmpty, let changed = changedAt.removeValue(forKey: delta.typeURL) {
            ControlMetrics.shared.convergence.observe(
                Double((MonotonicTime.now() - changed).wholeMilliseconds) / 1_000)
        }
        if let response = stream.receive(delta) { send(response) }
    }

    /// What became of pods, as the node says.
    private func take(_ details: [Google_Protobuf_Any]) {
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
        Self.logger.info("node disconnected", ["node": node, "status": status])
    }
}
