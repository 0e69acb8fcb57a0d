import Address
import Decision
import EventLoop
import Linux
import Mesh
import Telemetry
import Transport
import Tunnel

/// The destination's side of a connection between two pods of this daemon: what a CONNECT is where there is a tunnel. It
/// counts against the destination's budget, asks the destination's policies, and is cut when they change.
///
/// Lives on the loop that the client's connection is on.
final class SameNodeConnection: InboundConnection {
    typealias Completion = (SameNodeConnection, consuming DialOutcome) -> Void

    private let plan: SameNodePlan
    private let peer: Identity
    /// Until the client's side has its answer.
    private var completion: Completion?

    /// - Parameters:
    ///   - source: the workload that calls.
    ///   - client: its end of the connection.
    ///   - completion: called once, unless it is abandoned before: with the application's socket, or with what a client behind
    ///     a tunnel would be told.
    init(
        _ pod: WorkerPod, _ plan: SameNodePlan, from source: WorkloadEntry, at client: SocketAddress?,
        _ completion: @escaping Completion
    ) {
        self.plan = plan
        peer = source.identity
        self.completion = completion
        super.init(pod, .inbound, from: SocketAddress(plan.source, client?.port ?? 0))
        record.source.workload = source
        record.source.identity = peer
        record.destination.address = plan.address
        record.path = .sameNode
    }

    override var originalDestination: String? { plan.service?.service.hostname }

    /// The client's side is over.
    func abandon() {
        completion = nil
        end(.resetByClient)
    }

    override func start() { proceed() }

    override func proceed() {
        stopWaiting()
        guard let workload = pod.workload else {
            return wait(orEnd: .unknownLocalWorkload("\(pod.pod.namespace)/\(pod.pod.name)"))
        }
        record.destination.identity = workload.identity
        record.destination.workload = workload
        record.service = destinationService(
            of: workload.workload, port: plan.address.port, named: originalDestination,
            snapshot: worker.snapshot)
        // Nobody would get a tunnel here before.
        guard let credentials = credentials(of: workload.identity) else { return }
        if let reason = credentials.flaw { return end(.identityUnavailable(reason)) }
        open()
        var trace = Trace.off
        follow(
            admit(
                Connection(peer: peer, source: plan.source, destination: plan.address), workload: workload,
                snapshot: worker.snapshot, trace: &trace))
    }

    override func connected(_ application: consuming Socket) {
        guard let completion = completion.take() else { return application.reset() }
        completion(self, .connected(application))
    }

    override func release(_ reason: CloseReason) {
        super.release(reason)
        guard let completion = completion.take() else { return }
        completion(self, .failed(.refusedByPeer(status: reason.hboneStatus, reason: "\(reason)")))
    }
}
