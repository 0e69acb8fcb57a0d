import EventLoop
import GRPC
import Linux
import Log
import Mesh
import Metrics
import Protobuf
import Wire

/// Keeps the xDS stream up and a `DeltaClient` fed by it.
final class ConfigurationStream: ControlStreamListener {
    private(set) var client: DeltaClient
    /// Since when the stream is up; nil while it is not.
    private(set) var connectedSince: WallClock?
    private(set) var lastUpdate: WallClock?
    var onReception: ((DeltaClient.Reception) -> Void)?

    private let loop: EventLoop
    private let channel: any ControlChannel
    private let random: () -> Double
    private let metrics: DiscoveryMetrics
    private let logger = Logger(scope: "xds")
    private var stream: (any ControlStream)?
    private var backoff = Backoff.stream
    private var hasStopped = true
    private lazy var retry = CallbackTimer { [weak self] in self?.open() }

    init(
        _ client: DeltaClient, loop: EventLoop, channel: any ControlChannel, metrics: DiscoveryMetrics,
        random: @escaping () -> Double
    ) {
        self.client = client
        self.loop = loop
        self.channel = channel
        self.metrics = metrics
        self.random = random
    }

    /// Connects, and again whenever the stream ends. Once it runs, only `restart` and `stop` do anything.
    func start() {
        guard hasStopped else { return }
        hasStopped = false
        open()
    }

    /// Begins a new stream, which tells the server what this one already knows.
    func restart() {
        guard !hasStopped else { return }
        end()
        open()
    }

    func stop() {
        hasStopped = true
        end()
    }

    var isRunning: Bool { !hasStopped }

    func snapshot() -> Snapshot { client.snapshot() }

    func report(_ report: CaptureReport) {
        if let request = client.report(report) { stream?.send(request.serializedBytes()) }
    }

    private func open() {
        let stream = channel.openStream(self)
        self.stream = stream
        for request in client.connected() { stream.send(request.serializedBytes()) }
    }

    private func end() {
        loop.cancel(retry)
        stream?.cancel()
        stream = nil
        connectedSince = nil
        client.disconnected()
    }

    // MARK: Events of the stream

    func streamOpened() {
        guard connectedSince == nil else { return }
        connectedSince = .now()
        logger.info("connected to the control component")
    }

    func streamReceived(_ message: [UInt8]) {
        let response: DeltaClient.Response
        do throws(BinaryDecodingError) {
            response = try DeltaClient.Response(serializedBytes: message)
        } catch {
            stream?.cancel()
            streamEnded(GRPCStatus(.internal, "the response cannot be read: \(error)"))
            return
        }
        streamOpened()
        lastUpdate = .now()
        backoff.succeeded()
        metrics.received(response.typeURL, byteCount: message.count)
        let reception = client.received(response)
        stream?.send(reception.reply.serializedBytes())
        log(reception, response)
        onReception?(reception)
    }

    private func log(_ reception: DeltaClient.Reception, _ response: DeltaClient.Response) {
        if reception.type == nil {
            logger.limited(
                .seconds(60), .warn, "resources of a type that was not asked for",
                ["type": response.typeURL])
        }
        for rejection in reception.rejections.prefix(10) {
            logger.limited(
                .seconds(1), .warn, "resource refused",
                ["name": rejection.name, "reason": rejection.reason])
        }
        metrics.rejected.add(reception.rejections.count)
        logger.debug(
            "response applied",
            [
                "type": response.typeURL, "resources": "\(response.resources.count)",
                "removed": "\(response.removedResources.count)",
            ])
    }

    func streamEnded(_ status: GRPCStatus) {
        let wasConnected = connectedSince != nil
        stream = nil
        connectedSince = nil
        client.disconnected()
        guard !hasStopped else { return }
        metrics.ended(status, wasConnected: wasConnected)
        // A server that ends its streams after a while is not in trouble: the wait begins at its shortest, for `backoff`
        // was told of the last response.
        let wait = backoff.failed(random: random())
        if wasConnected, status.isOrderly {
            logger.info("stream ended, connecting again", ["status": "\(status)"])
        } else {
            logger.limited(
                .seconds(5), .warn, "no connection to the control component",
                ["status": "\(status)", "attempts": "\(backoff.failures)"])
        }
        loop.schedule(retry, after: wait)
    }
}

extension GRPCStatus {
    /// How connections end that are drained, aged out or cut by a restart of the server.
    var isOrderly: Bool {
        switch code {
        case .ok, .unknown, .cancelled, .deadlineExceeded, .unavailable: true
        default: false
        }
    }
}
