import Address
import Daemon
import Decision
import EventLoop
import HTTP2
import Linux
import Mesh
import TLS
import Telemetry
import Transport
import Tunnel

/// A connection that the pod opened, captured on port 15001 (ztunnel.md §1.4).
///
/// Nothing is taken from its socket until the other side is there: an attempt that fails leaves nothing behind, and another
/// endpoint is tried. What the application has sent by then goes along with a CONNECT, and then only a refusal lets another
/// attempt follow.
final class OutboundConnection: ProxiedConnection {
    /// Until it is handed to a relay.
    private var client: ClientSocket?
    private var destination: SocketAddress?
    private var connector: Connector?
    private var attempt: TunnelAttempt?
    private var neighbour: SameNodeConnection?
    /// What has failed: addresses, and the workloads behind them.
    private var tried: Set<SocketAddress> = []
    private var failedWorkloads: Set<String> = []

    /// How often a choice among waypoints is repeated to find one that has not failed.
    private static let draws = 8

    init(_ pod: WorkerPod, _ socket: consuming Socket, from source: SocketAddress) {
        client = ClientSocket(pod.worker.loop, socket)
        super.init(pod, .outbound, from: source)
    }

    override var originalDestination: String? { destination?.description }

    override func start() {
        guard let destination = client?.destination else {
            return end(.failed("the original destination of the connection is unknown"))
        }
        self.destination = destination
        record.destination.address = destination
        // Not captured, but addressed to the listener itself: to dial that would be to call ourselves for ever.
        let isOwn = destination.address.isLoopback || pod.pod.addresses.contains(destination.address)
        if proxyPorts.contains(destination.port), isOwn {
            return end(.recursiveCall)
        }
        client?.watch { [unowned self] in end(.resetByClient) }
        proceed()
    }

    override func proceed() {
        stopWaiting()
        tryNext(after: nil)
    }

    // MARK: Where to

    /// - Parameter failure: why the attempt before this one failed.
    private func tryNext(after failure: CloseReason?) {
        guard let destination else { return }
        guard client?.hasFailed != true else { return end(.resetByClient) }
        guard let source = pod.workload else {
            return wait(orEnd: .unknownLocalWorkload("\(pod.pod.namespace)/\(pod.pod.name)"))
        }
        record.source.workload = source
        var trace = Trace.off
        for _ in 0..<Self.draws {
            let plan = outbound(
                from: source, at: record.source.address?.address, to: destination, held: worker.heldPods,
                without: failedWorkloads, snapshot: worker.snapshot, randomness: &worker.randomness,
                trace: &trace)
            switch plan {
            case .refuse(let reason):
                if failure == nil { return end(reason) }
            case .plain(let plan):
                if !tried.contains(plan.address) { return connect(plan) }
            case .sameNode(let plan):
                if !tried.contains(plan.address) { return join(plan, from: source) }
            case .tunnel(let plan):
                if !tried.contains(plan.address) { return openTunnel(plan, from: source) }
            }
            // Nothing has failed yet: then the first choice is taken.
            if failure == nil { break }
        }
        end(failure ?? .noHealthyUpstream(destination))
    }

    private func failed(_ reason: CloseReason, at address: SocketAddress) {
        tried.insert(address)
        if let workload = record.destination.workload { failedWorkloads.insert(workload.workload.uid) }
        if tried.count < worker.settings.attempts, reason.mayBeTriedElsewhere {
            tryNext(after: reason)
        } else {
            end(reason)
        }
    }

    // MARK: Plain

    private func connect(_ plan: PlainPlan) {
        record.destination = .init(address: plan.address, workload: plan.workload)
        record.authority = nil
        record.service = plan.service
        do throws(SystemCallError) {
            connector = try worker.dial(plan.address, in: pod.namespace) { [unowned self] outcome in
                connector = nil
                switch consume outcome {
                case .connected(let server): relay(to: server)
                case .failed(let reason): failed(reason, at: plan.address)
                }
            }
        } catch {
            failed(.connectFailed("\(error)"), at: plan.address)
        }
    }

    /// - Parameter neighbour: the other pod's side, where that is of this node.
    private func relay(to server: consuming Socket, of neighbour: SameNodeConnection? = nil) {
        guard let client = client.takeSocket() else { return }
        let relay = PlainRelay(
            loop: worker.loop, client: client, server: server, share: pod.share)
        if let neighbour { carry(relay, to: neighbour) } else { carry(relay) }
        relay.start()
    }

    // MARK: Same node

    /// Asks for the other pod's side of the connection, as a CONNECT would. No certificate is shown, but without one that is
    /// valid the mesh does not vouch for us any more, and a tunnel would not open either.
    private func join(_ plan: SameNodePlan, from source: WorkloadEntry) {
        record.destination = .init(address: plan.address, workload: plan.workload)
        record.authority = nil
        record.service = plan.service
        guard let credentials = credentials(of: source.identity) else { return }
        if let reason = credentials.flaw { return end(.identityUnavailable(reason)) }
        guard let pod = worker.pod(of: plan.workload) else {
            return failed(.connectFailed("\(plan.workload.workload.uid) has left"), at: plan.address)
        }
        let neighbour = SameNodeConnection(pod, plan, from: source, at: record.source.address) {
            [unowned self] neighbour, outcome in
            self.neighbour = nil
            switch consume outcome {
            case .connected(let server):
                record.source.identity = source.identity
                record.destination.identity = plan.workload.identity
                record.path = .sameNode
                relay(to: server, of: neighbour)
            case .failed(let reason): failed(reason, at: plan.address)
            }
        }
        self.neighbour = neighbour
        pod.begin(neighbour)
    }

    // MARK: Tunnel

    private func openTunnel(_ plan: TunnelPlan, from source: WorkloadEntry) {
        record.destination = .init(address: plan.address, workload: plan.workload)
        record.authority = plan.authority
        record.service = plan.service
        guard let credentials = credentials(of: source.identity) else { return }
        do throws(TLSError) {
            openTunnel(plan, from: source, try credentials.client())
        } catch {
            end(.identityUnavailable("\(error)"))
        }
    }

    private func openTunnel(_ plan: TunnelPlan, from source: WorkloadEntry, _ context: TLSContext) {
        let target = TunnelTarget(
            source: source.identity, expected: plan.expected, address: plan.address,
            authority: plan.authority, headers: headers(from: source, plan))
        attempt = pod.tunnelPool.open(target, firstBytes: client, context: context) { [weak self] outcome in
            guard let self else { return }
            attempt = nil
            switch outcome {
            case .opened(let stream, _, let peer):
                record.source.identity = source.identity
                record.destination.identity = peer?.identity
                record.path = .tunnel
                relay(stream)
            case .failed(let reason):
                failed(reason, at: plan.address)
            case .lost(let reason):
                end(reason)
            }
        }
    }

    private func headers(from source: WorkloadEntry, _ plan: TunnelPlan) -> [Header] {
        var headers = [Header("baggage", pod.baggage(of: source))]
        if let address = record.source.address {
            let forwarded = TunnelHeaders.forwarded(for: address, service: plan.service?.service)
            headers.append(Header("forwarded", forwarded, isUnique: true))
        }
        let trace = TunnelHeaders.traceparent(randomness: &worker.randomness)
        headers.append(Header("traceparent", trace, isUnique: true))
        return headers
    }

    private func relay(_ stream: TunnelStream) {
        guard client?.hasFailed != true else {
            stream.abandon()
            return end(.resetByClient)
        }
        guard let client = client.takeSocket() else { return stream.abandon() }
        guard let relay = StreamRelay.outbound(client: client, stream: stream, share: pod.share) else {
            return end(.resetByServer)
        }
        carry(relay)
        relay.start()
    }

    override func release(_ reason: CloseReason) {
        connector?.cancel()
        connector = nil
        attempt?.cancel()
        attempt = nil
        neighbour?.abandon()
        neighbour = nil
        // A reset tells the application that its connection failed, where a FIN would look like an empty answer.
        if let client = client.takeSocket() { client.reset() }
    }
}
