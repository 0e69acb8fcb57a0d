import Address
import Daemon
import EventLoop
import Linux
import Mesh
import Telemetry
import Tunnel

/// One connection of an application on its way through this node. Subclasses find out where it goes.
///
/// Whatever happens, it ends once, by `end`, with one reason, and from that one place the log and the metrics are told.
class ProxiedConnection: Pollable, Waiting {
    let pod: WorkerPod
    /// What is known of it so far.
    final var record: ConnectionRecord
    private var meter: ConnectionMeter?
    private var relay: Relay?
    private let began: MonotonicTime
    private var isOver = false
    /// It was ended for a reason of its own pod's, which the other side of a connection within this node does not share.
    private var isCut = false
    /// Made by the first wait: hardly a connection waits.
    private var patience: Patience?

    init(_ pod: WorkerPod, _ direction: ConnectionRecord.Direction, from source: SocketAddress) {
        self.pod = pod
        began = pod.worker.loop.now
        record = ConnectionRecord(
            direction: direction, source: .init(address: source), destination: .init(address: nil))
    }

    var worker: Worker { pod.worker }

    // MARK: For subclasses

    /// Begins; may end at once.
    func start() {}

    /// Configuration or certificates have changed while it waited for them.
    func proceed() {}

    /// Lets go of whatever the connection holds besides its relay: it ends for this reason.
    func release(_ reason: CloseReason) {}

    /// What a dump says of where it was going.
    var originalDestination: String? { nil }

    /// What a dump says of where it went.
    var actualDestination: SocketAddress? { record.destination.address }

    /// Waits for the pod's own workload, certificate or policies, for a limited time.
    final func wait(orEnd reason: CloseReason) {
        let now = worker.loop.now
        let patience = self.patience ?? Patience(self, until: now + worker.settings.ownWorkloadWait)
        self.patience = patience
        patience.reason = reason
        pod.wait(self)
        worker.loop.schedule(patience, after: patience.deadline - now)
    }

    /// The certificate of an identity; nil when it waits for that now, or has ended because there is none.
    final func credentials(of identity: Identity) -> Credentials? {
        switch worker.credentials[identity] {
        case .pending: wait(orEnd: .identityUnavailable("no certificate yet for \(identity)"))
        case .unavailable(let reason): end(.identityUnavailable(reason))
        case .available(let credentials): return credentials
        }
        return nil
    }

    final func stopWaiting() {
        guard let patience, patience.isArmed else { return }
        worker.loop.cancel(patience)
        pod.stopWaiting(self)
    }

    /// Counts it as opened, under what is known of it now. Only the first call counts.
    final func open() {
        if meter == nil { meter = worker.metrics.open(record) }
    }

    /// Both sides are there: from now on the relay decides when it ends.
    final func carry(_ relay: Relay) {
        open()
        self.relay = relay
        worker.metrics.countCarried(record)
        relay.onEnd = { [self] in end($0) }
    }

    /// The same for a connection whose other side is another pod's of this node: one relay, two accounts. Each side hears of
    /// the end what it would hear through a tunnel.
    final func carry(_ relay: Relay, to other: ProxiedConnection) {
        carry(relay)
        other.carry(relay)
        relay.onEnd = { [self] reason in
            end(other.isCut ? .resetByServer : reason)
            other.end(isCut ? .resetByClient : reason)
        }
    }

    // MARK: The end

    /// Ends it for a reason of ours.
    final func cut(_ reason: CloseReason) {
        guard let relay else { return end(reason) }
        isCut = true
        relay.cut(reason)
    }

    final func end(_ reason: CloseReason) {
        guard !isOver else { return }
        isOver = true
        stopWaiting()
        release(reason)
        account()
        relay = nil
        record.reason = reason
        record.duration = worker.loop.now - began
        // One that is refused before anybody knows whose it is has no labels to be counted under (ztunnel.md §7.2).
        if meter == nil, record.source.workload != nil || record.destination.workload != nil { open() }
        meter.take()?.close(reason)
        worker.log(record)
        pod.ended(self)
    }

    /// Ends it before it has begun, for want of room.
    final func refuseUncounted(_ reason: CloseReason) {
        isOver = true
        release(reason)
        record.reason = reason
        worker.log(record)
    }

    // MARK: Accounts

    final func account() {
        guard let relay else { return }
        record.bytesFromClient = relay.bytesFromClient
        record.bytesToClient = relay.bytesToClient
        meter?.count(fromClient: relay.bytesFromClient, toClient: relay.bytesToClient)
    }

    /// Nil before both of its sides are there.
    final var live: LiveConnection? {
        guard let relay, let source = record.source.address, let destination = actualDestination
        else { return nil }
        return LiveConnection(
            direction: record.direction, source: source, originalDestination: originalDestination,
            actualDestination: destination, path: record.path,
            bytesFromClient: relay.bytesFromClient, bytesToClient: relay.bytesToClient)
    }
}

/// How long a connection waits for what its pod needs.
private final class Patience: LoopTimer {
    /// However often it begins to wait again, it waits so long and no longer.
    let deadline: MonotonicTime
    /// Why it ends if what it waits for does not come.
    var reason = CloseReason.completed
    private unowned let connection: ProxiedConnection

    init(_ connection: ProxiedConnection, until deadline: MonotonicTime) {
        self.connection = connection
        self.deadline = deadline
    }

    override func fired() { connection.end(reason) }
}
