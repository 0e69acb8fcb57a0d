import Address
import Decision
import EventLoop
import Linux
import Mesh
import Telemetry
import Transport
import Tunnel

/// A connection to the pod's application, by tunnel or plain. Asked about again whenever configuration changes.
class InboundConnection: ProxiedConnection {
    /// What policies were asked about.
    private var admitted: Connection?
    private var connector: Connector?

    /// The other side is there: relay to it.
    func connected(_ application: consuming Socket) {}

    /// The application's address, not the tunnel's (ztunnel.md §7.4).
    final override var actualDestination: SocketAddress? { admitted?.destination ?? super.actualDestination }

    // MARK: Deciding

    /// Carries out what was decided.
    final func follow(_ plan: InboundPlan) {
        switch plan {
        case .refuse(.missingPolicy(let name)):
            // A workload and the policies that it names come apart from each other: the policy may be on its way.
            wait(orEnd: .missingPolicy(name))
        case .refuse(let reason):
            end(reason)
        case .connect(let address, let connection, let ground):
            admitted = connection
            if case .policy(let name) = ground { record.policy = name }
            dial(address, from: connection.source)
        }
    }

    /// Asks the present configuration about an open connection, and ends it if that would not let it in.
    ///
    /// - Parameter isFinal: a policy that is named and not there denies; else it may still be on its way.
    /// - Returns: false when that is so, and it has to be asked again.
    final func recheck(isFinal: Bool) -> Bool {
        guard let admitted else { return true }
        guard let workload = pod.workload else {
            cut(.workloadRemoved)
            return true
        }
        var trace = Trace.off
        let policies = worker.snapshot.policySet(for: workload.workload)
        switch authorize(admitted, by: policies, trace: &trace) {
        case .allowed: return true
        case .denied(.missingPolicy) where !isFinal: return false
        case .denied:
            cut(.policyChanged)
            return true
        }
    }

    /// Names both ends, as far as configuration knows them.
    final func classify(_ workload: WorkloadEntry, port: UInt16?, service hostname: String? = nil) {
        record.destination.workload = workload
        if let source = record.source.address {
            let key = NetworkAddress(network: workload.workload.network, address: source.address)
            record.source.workload = worker.snapshot.workload(at: key)
        }
        if let port {
            record.service = destinationService(
                of: workload.workload, port: port, named: hostname, snapshot: worker.snapshot)
        }
    }

    // MARK: The application

    private func dial(_ address: SocketAddress, from source: IPAddress) {
        // The application sees its client's address. A pod that calls itself has it anyway.
        let isForeign = source != address.address && source.isIPv4 == address.address.isIPv4
        do throws(SystemCallError) {
            connector = try worker.dial(
                address, spoofing: isForeign ? source : nil, isLocal: true, in: pod.namespace
            ) { [unowned self] outcome in
                connector = nil
                switch consume outcome {
                case .connected(let socket): connected(socket)
                case .failed(let reason): end(reason)
                }
            }
        } catch  where error.isRefused {
            // Nobody listens: over the loopback that is known at once.
            end(.connectFailed("\(address): \(errorText(error.number))"))
        } catch {
            end(.connectFailed("\(error)"))
        }
    }

    override func release(_ reason: CloseReason) {
        connector?.cancel()
        connector = nil
    }
}

/// A connection that came without a tunnel, captured on port 15006 (ztunnel.md §1.7).
final class PlaintextConnection: InboundConnection {
    /// Until it is handed to a relay.
    private var client: ClientSocket?

    init(_ pod: WorkerPod, _ socket: consuming Socket, from source: SocketAddress) {
        client = ClientSocket(pod.worker.loop, socket)
        super.init(pod, .inbound, from: source)
    }

    override func start() {
        guard let destination = client?.destination else {
            return end(.failed("the original destination of the connection is unknown"))
        }
        record.destination.address = destination
        client?.watch { [unowned self] in end(.resetByClient) }
        proceed()
    }

    override func proceed() {
        stopWaiting()
        guard let source = record.source.address, let destination = record.destination.address else { return }
        guard let workload = pod.workload else {
            return wait(orEnd: .unknownLocalWorkload("\(pod.pod.namespace)/\(pod.pod.name)"))
        }
        classify(workload, port: destination.port)
        open()
        var trace = Trace.off
        follow(
            inboundPlaintext(
                source: source.address, destination: destination, workload: workload,
                snapshot: worker.snapshot, trace: &trace))
    }

    override func connected(_ application: consuming Socket) {
        guard let client = client.takeSocket() else { return }
        let relay = PlainRelay(
            loop: worker.loop, client: client, server: application, share: pod.share)
        carry(relay)
        relay.start()
    }

    override func release(_ reason: CloseReason) {
        super.release(reason)
        if let client = client.takeSocket() { client.reset() }
    }
}
