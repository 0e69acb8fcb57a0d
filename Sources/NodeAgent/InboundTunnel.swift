import Address
import Daemon
import Decision
import EventLoop
import HTTP2
import Linux
import Log
import Mesh
import TLS
import Telemetry
import Transport
import Tunnel

/// A tunnel that arrived on port 15008: handshake, then one connection for each CONNECT (ztunnel.md §1.6).
final class InboundTunnel: Waiting, TunnelServerDelegate {
    private let pod: WorkerPod
    private let peer: SocketAddress
    /// Where the peer reached us: the address that its CONNECTs may name.
    private let local: SocketAddress?
    /// Until our certificate is there.
    private var socket: Socket?
    private var server: TunnelServer?
    private var isOver = false
    private lazy var patience = CallbackTimer { [unowned self] in fail(waitingFor) }
    private var waitingFor = CloseReason.completed

    init(_ pod: WorkerPod, _ socket: consuming Socket, from peer: SocketAddress) {
        self.pod = pod
        self.peer = peer
        local = socket.localAddress
        self.socket = consume socket
    }

    private var worker: Worker { pod.worker }

    /// The peer has yet to prove who it is.
    var isHandshaking: Bool { !isOver && server?.peer == nil }

    // MARK: Beginning

    /// Begins as soon as the workload and its certificate are known.
    func proceed() {
        guard server == nil, !isOver else { return }
        guard let workload = pod.workload else {
            return wait(orEnd: .unknownLocalWorkload("\(pod.pod.namespace)/\(pod.pod.name)"))
        }
        switch worker.credentials[workload.identity] {
        case .pending:
            wait(orEnd: .identityUnavailable("no certificate yet for \(workload.identity)"))
        case .unavailable(let reason):
            fail(.identityUnavailable(reason))
        case .available(let credentials):
            stopWaiting()
            do {
                try begin(try credentials.server())
            } catch let error as TLSError {
                fail(.identityUnavailable("\(error)"))
            } catch {
                fail(.failed("\(error)"))
            }
        }
    }

    private func begin(_ context: TLSContext) throws {
        guard let socket = socket.take() else { return }
        server = try TunnelServer(
            loop: worker.loop, socket: socket, context: context, configuration: pod.channelConfiguration,
            share: pod.share, delegate: self)
    }

    private func wait(orEnd reason: CloseReason) {
        waitingFor = reason
        pod.wait(self)
        if !patience.isArmed { worker.loop.schedule(patience, after: worker.settings.ownWorkloadWait) }
    }

    private func stopWaiting() {
        guard patience.isArmed else { return }
        worker.loop.cancel(patience)
        pod.stopWaiting(self)
    }

    // MARK: Connections

    func tunnel(_ server: TunnelServer, requested request: TunnelRequest) {
        // TLS has let in nobody without an identity; both are here to be sure of.
        guard let local, let identity = request.peer.identity else {
            return request.refuse(.tlsFailed("the peer has no identity"))
        }
        pod.begin(TunnelledConnection(pod, request, of: identity, from: peer, at: local))
    }

    func tunnel(_ server: TunnelServer, refused request: TunnelRequest, _ reason: CloseReason) {
        log(reason, from: request.peer.identity)
    }

    func tunnelClosed(_ server: TunnelServer, _ reason: ChannelClose) {
        // One that got as far as connections has told of each.
        if server.peer == nil, let failure = CloseReason(beforeHandshake: reason) { log(failure) }
        end()
    }

    /// Nil before the handshake is done.
    var state: NodeStatus.Tunnel? {
        guard let server, let client = server.peer, let local else { return nil }
        return NodeStatus.Tunnel(
            direction: .inbound, source: client.identity?.uri ?? peer.address.description,
            destination: pod.workload?.identity.uri ?? local.address.description, address: local,
            streamCount: server.openStreams, congestionControl: server.congestionControl,
            worker: worker.index, since: server.since)
    }

    // MARK: Ending

    /// Lets connections go on and takes no more.
    func drain() {
        guard let server else { return fail(.drained) }
        server.drain()
    }

    func close(_ reason: CloseReason) {
        guard let server else { return fail(reason) }
        server.close()
    }

    private func fail(_ reason: CloseReason) {
        guard !isOver else { return }
        log(reason)
        end()
    }

    private func end() {
        guard !isOver else { return }
        isOver = true
        stopWaiting()
        if let socket = socket.take() { socket.reset() }
        server = nil
        pod.ended(self)
    }

    /// A tunnel that carried nothing, or a request that asked for none, has no connection to be told of; it gets a line of
    /// its own.
    private func log(_ reason: CloseReason, from identity: Identity? = nil) {
        guard reason.isError else { return }
        worker.log(
            ConnectionRecord(
                direction: .inbound, source: .init(address: peer, identity: identity),
                destination: .init(address: local), reason: reason))
    }
}

/// One CONNECT of a tunnel.
final class TunnelledConnection: InboundConnection {
    /// Until it is answered.
    private var request: TunnelRequest?
    /// What was asked for. No name or address is longer, and what a peer sends goes to the log no longer than this.
    private let authority: String
    private let peer: Identity
    private let local: SocketAddress
    private let namedService: String?

    init(
        _ pod: WorkerPod, _ request: TunnelRequest, of peer: Identity, from source: SocketAddress,
        at local: SocketAddress
    ) {
        self.request = request
        authority = String(decoding: request.authority.utf8.prefix(300), as: UTF8.self)
        self.peer = peer
        self.local = local
        namedService = request.headers["forwarded"].flatMap(TunnelHeaders.forwardedHost)
        super.init(pod, .inbound, from: source)
        record.source.identity = peer
        record.destination.address = local
        record.authority = authority
        record.path = .tunnel
    }

    override var originalDestination: String? { namedService }

    override func start() {
        request?.onAbandoned = { [unowned self] in end(.resetByClient) }
        proceed()
    }

    override func proceed() {
        stopWaiting()
        guard let source = record.source.address else { return }
        guard let workload = pod.workload else {
            return wait(orEnd: .unknownLocalWorkload("\(pod.pod.namespace)/\(pod.pod.name)"))
        }
        record.destination.identity = workload.identity
        var trace = Trace.off
        let plan = inbound(
            InboundRequest(
                authority: authority, peer: peer, source: source.address, local: local.address),
            workload: workload, snapshot: worker.snapshot, trace: &trace)
        var port: UInt16?
        if case .connect(let address, _, _) = plan {
            port = address.port
        } else {
            port = Authority(authority)?.port
        }
        classify(workload, port: port, service: namedService)
        open()
        follow(plan)
    }

    override func connected(_ application: consuming Socket) {
        var headers: [Header] = []
        if worker.settings.sendsResponseBaggage, let workload = record.destination.workload {
            headers.append(Header("baggage", pod.baggage(of: workload)))
        }
        let request = self.request
        self.request = nil
        guard let stream = request?.accept(headers: headers) else {
            application.reset()
            return end(.resetByClient)
        }
        guard let relay = StreamRelay.inbound(server: application, stream: stream, share: pod.share) else {
            return end(.resetByClient)
        }
        carry(relay)
        relay.start()
    }

    override func release(_ reason: CloseReason) {
        super.release(reason)
        let request = self.request
        self.request = nil
        request?.refuse(reason)
    }
}
