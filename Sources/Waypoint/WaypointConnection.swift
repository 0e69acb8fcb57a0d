import Address
import Daemon
import Decision
import EventLoop
import HTTP2
import L7
import Linux
import Mesh
import Routing
import TLS
import Telemetry
import Transport
import Tunnel

/// One CONNECT of a client's node on its way through the waypoint.
///
/// Whatever happens, it ends once, by `end`, with one reason, and from that one place the log and the metrics are told.
final class WaypointConnection {
    private unowned let worker: WaypointWorker
    /// Until it is answered.
    private var request: TunnelRequest?
    /// The client's bytes, from where somebody began to look for requests in them.
    private var client: ClientChannel?
    /// Somebody reads requests from it, and tells of each.
    private var carriesRequests = false
    /// What was asked for. No name or address is longer, and what a peer sends goes to the log no longer than this.
    private let authority: String
    let peer: Identity
    private let source: SocketAddress
    /// What the client's tunnel may move in a turn of the loop.
    private let share: TurnShare
    private var record: ConnectionRecord
    private var meter: ConnectionMeter?
    private var relay: Relay?
    /// What is served, once that is decided.
    private var target: WaypointTarget?
    /// Where routes send it instead of to the service's own endpoints.
    private var destination: Destination?
    private var connector: Connector?
    private var attempt: TunnelAttempt?
    /// What has failed: addresses, and the workloads behind them.
    private var tried: Set<SocketAddress> = []
    private var failedWorkloads: Set<String> = []
    private let began: MonotonicTime
    private var isOver = false
    private lazy var patience = CallbackTimer { [unowned self] in end(waitingFor) }
    private lazy var waitingFor = CloseReason.notServed(authority)

    /// Endpoints that are tried for one connection.
    private static let attempts = 3
    /// How often a choice is repeated to find an endpoint that has not failed.
    private static let draws = 8
    /// A client's node may have heard of a service's waypoint before the waypoint has.
    static let serviceWait = Duration.seconds(2)

    init(
        _ worker: WaypointWorker, _ request: TunnelRequest, of peer: Identity, from source: SocketAddress,
        _ share: TurnShare
    ) {
        self.worker = worker
        self.share = share
        self.request = request
        self.peer = peer
        self.source = source
        authority = String(decoding: request.authority.utf8.prefix(300), as: UTF8.self)
        began = worker.loop.now
        record = ConnectionRecord(
            direction: .waypoint, source: .init(address: source, identity: peer),
            destination: .init(address: nil), authority: authority, path: .tunnel)
    }

    // MARK: Deciding

    func start() {
        request?.onAbandoned = { [unowned self] in end(.resetByClient) }
        proceed()
    }

    /// Asks whether it is taken: at its beginning, and when configuration has changed while it waited.
    func proceed() {
        guard !isOver, target == nil else { return }
        guard let own = worker.own else { return end(.unknownLocalWorkload("this waypoint")) }
        let address = NetworkAddress(network: own.workload.network, address: source.address)
        record.source.workload = worker.snapshot.workload(at: address)
        var trace = Trace.off
        let verdict = waypoint(
            WaypointRequest(authority: authority, peer: peer, source: source.address), at: own,
            policies: worker.policies, snapshot: worker.snapshot, trace: &trace)
        switch verdict {
        case .refuse(.notServed): wait(orEnd: .notServed(authority))
        // It is on its way, as a rule: attached before it has arrived.
        case .refuse(.missingPolicy(let name)): wait(orEnd: .missingPolicy(name))
        case .refuse(let reason):
            end(reason)
        case .serve(let target):
            stopWaiting()
            self.target = target
            record.service = target.service
            if case .policy(let name) = target.ground { record.policy = name }
            serve(target)
        }
    }

    /// The one place where what is spoken decides who goes on with the connection.
    private func serve(_ target: WaypointTarget) {
        // Who calls a workload by its address has chosen already.
        guard let service = target.service else { return tryNext(target, after: nil) }
        guard let proxy = worker.proxy(for: service.service.key) else {
            // The service is known, and what is to be done with its requests is not yet.
            self.target = nil
            return wait(orEnd: .notServed(authority))
        }
        guard proxy.readsRequests(port: target.port) else { return carryBytes(target, by: proxy) }
        guard let stream = accept() else { return end(.resetByClient) }
        let client = ClientChannel(stream) { [weak self] in self?.clientEnded($0) }
        client.onBytes = { [weak self] in
            guard let self else { return }
            carriesRequests = false
            carryBytes(target, by: proxy)
        }
        self.client = client
        carriesRequests = true
        proxy.serve(
            client, from: ClientContext(address: source, identity: peer.uri, origin: origin(of: target)),
            port: target.port)
    }

    private func origin(of target: WaypointTarget) -> RequestOrigin {
        RequestOrigin(port: target.port, namespace: peer.namespace)
    }

    private func carryBytes(_ target: WaypointTarget, by proxy: ServiceProxy) {
        let found = proxy.streamDestination(
            port: target.port, at: target.address, from: origin(of: target), random: worker.randomness.next())
        switch found {
        case .service(let destination)?: self.destination = destination
        case .unresolved(let what)?: return end(.failed("the route leads nowhere: \(what)"))
        case nil: break
        }
        let destination =
            destination ?? target.service.map { Destination($0.service.hostname, port: target.port) }
        // Sent without the TLS that was asked for, the bytes would be readable by whoever they were to be hidden from.
        guard let destination, proxy.mayCarryBytes(to: destination) else {
            return end(
                .failed("a DestinationRule asks for TLS on the way to it, which is not begun for bytes yet"))
        }
        tryNext(target, after: nil)
    }

    /// The client's connection is over, whoever read it.
    private func clientEnded(_ reason: ByteChannelClose) {
        // A relay has its own word about the end.
        guard relay == nil else { return }
        switch reason {
        case .finished, .declined, .local: end(carriesRequests ? .completed : .resetByClient)
        case .reset: end(.resetByClient)
        case .failed(let text): end(.failed(text))
        }
    }

    private func wait(orEnd reason: CloseReason) {
        waitingFor = reason
        worker.wait(self)
        if !patience.isArmed { worker.loop.schedule(patience, after: Self.serviceWait) }
    }

    /// Asks the present policies about an open connection, and ends it if they would not let it in.
    ///
    /// - Parameter isFinal: a policy that is attached and not there denies; else it may still be on its way.
    /// - Returns: false when that is so, and it has to be asked again.
    func recheck(isFinal: Bool) -> Bool {
        guard let target, !isOver else { return true }
        var trace = Trace.off
        switch authorize(target.connection, by: worker.policies, trace: &trace) {
        case .allowed: return true
        case .denied(.missingPolicy) where !isFinal: return false
        case .denied:
            cut(.policyChanged)
            return true
        }
    }

    private func stopWaiting() {
        guard patience.isArmed else { return }
        worker.loop.cancel(patience)
        worker.stopWaiting(self)
    }

    // MARK: Where to

    /// - Parameter failure: why the attempt before this one failed.
    private func tryNext(_ target: WaypointTarget, after failure: CloseReason?) {
        guard let own = worker.own else { return end(.unknownLocalWorkload("this waypoint")) }
        var trace = Trace.off
        for _ in 0..<Self.draws {
            let plan =
                destination.map { self.plan(to: $0, of: target, from: own) }
                ?? endpoint(
                    of: target, from: own, without: failedWorkloads, snapshot: worker.snapshot,
                    randomness: &worker.randomness, trace: &trace)
            switch plan {
            case .refuse(let reason): return end(failure ?? reason)
            case .plain(let plan) where !tried.contains(plan.address): return connect(plan)
            case .tunnel(let plan) where !tried.contains(plan.address):
                return openTunnel(plan, from: own)
            case .plain, .tunnel, .sameNode: break
            }
        }
        end(failure ?? .failed("no endpoint is left to try"))
    }

    private func plan(
        to destination: Destination, of target: WaypointTarget, from own: WorkloadEntry
    ) -> OutboundPlan {
        guard let service = target.service, let proxy = worker.proxy(for: service.service.key),
            let chosen = proxy.endpoint(
                of: destination, without: failedWorkloads, random: worker.randomness.next()),
            let workload = worker.snapshot.workload(uid: chosen.id)
        else { return .refuse(.noHealthyUpstream(target.connection.destination)) }
        var trace = Trace.off
        return way(to: workload, at: chosen.address, of: service, from: own, trace: &trace)
    }

    private func failed(_ reason: CloseReason, at address: SocketAddress) {
        tried.insert(address)
        if let workload = record.destination.workload { failedWorkloads.insert(workload.workload.uid) }
        guard let target, tried.count < Self.attempts, reason.mayBeTriedElsewhere else { return end(reason) }
        tryNext(target, after: reason)
    }

    private func connect(_ plan: PlainPlan) {
        record.destination = .init(address: plan.address, workload: plan.workload)
        record.path = .plain
        do throws(SystemCallError) {
            let dialled = try Socket.dial(plan.address, ConnectOptions(keepAlive: .ztunnel))
            if dialled.isConnected { return relay(to: dialled.socket) }
            connector = try Connector(on: worker.loop, dialled.socket, within: .seconds(10)) {
                [unowned self] result in
                connector = nil
                switch consume result {
                case .connected(let socket): relay(to: socket)
                case .failed(let number):
                    failed(.connectFailed("\(plan.address): \(errorText(number))"), at: plan.address)
                case .timedOut: failed(.connectTimedOut, at: plan.address)
                case .cancelled: break
                }
            }
        } catch {
            failed(.connectFailed("\(error)"), at: plan.address)
        }
    }

    private func openTunnel(_ plan: TunnelPlan, from own: WorkloadEntry) {
        record.destination = .init(address: plan.address, workload: plan.workload)
        record.path = .tunnel
        let context: TLSContext
        switch worker.credentials[own.identity] {
        case .pending: return end(.identityUnavailable("no certificate yet for \(own.identity)"))
        case .unavailable(let reason): return end(.identityUnavailable(reason))
        case .available(let credentials):
            do throws(TLSError) { context = try credentials.client() } catch {
                return end(.identityUnavailable("\(error)"))
            }
        }
        let target = TunnelTarget(
            source: own.identity, expected: plan.expected, address: plan.address, authority: plan.authority,
            headers: headers(from: own, plan))
        attempt = worker.tunnelPool.open(target, context: context) { [weak self] outcome in
            guard let self else { return }
            attempt = nil
            switch outcome {
            case .opened(let stream, _, let peer):
                record.destination.identity = peer?.identity
                relay(to: stream)
            case .failed(let reason): failed(reason, at: plan.address)
            case .lost(let reason): end(reason)
            }
        }
    }

    /// Who we are; whom we speak for, in `forwarded`; and the client's trace, if it sent one.
    private func headers(from own: WorkloadEntry, _ plan: TunnelPlan) -> [Header] {
        var headers = [Header("baggage", TunnelHeaders.baggage(of: own.workload))]
        let forwarded = TunnelHeaders.forwarded(for: source, service: plan.service?.service)
        headers.append(Header("forwarded", forwarded, isUnique: true))
        let trace =
            request?.headers["traceparent"].flatMap { $0.utf8.count == 55 ? $0 : nil }
            ?? TunnelHeaders.traceparent(randomness: &worker.randomness)
        headers.append(Header("traceparent", trace, isUnique: true))
        return headers
    }

    // MARK: Relaying

    /// Answers the client: what it sends from now on, and has sent, goes to the endpoint.
    private func accept() -> TunnelStream? {
        var headers: [Header] = []
        if let workload = record.destination.workload {
            headers.append(Header("baggage", TunnelHeaders.baggage(of: workload.workload)))
        }
        let request = self.request
        self.request = nil
        return request?.accept(headers: headers)
    }

    private func relay(to server: TunnelStream) {
        guard let client: any ByteChannel = client ?? accept() else {
            server.reset(.cancel)
            return end(.resetByClient)
        }
        let relay = ChannelRelay(loop: worker.loop, client: client, server: server)
        carry(relay)
        relay.start()
    }

    private func relay(to server: consuming Socket) {
        if let client {
            let relay = ChannelRelay(
                loop: worker.loop, client: client,
                server: SocketChannel(loop: worker.loop, server, share: share))
            carry(relay)
            return relay.start()
        }
        guard let client = accept() else {
            server.reset()
            return end(.resetByClient)
        }
        guard let relay = StreamRelay.inbound(server: server, stream: client, share: share) else {
            return end(.resetByClient)
        }
        carry(relay)
        relay.start()
    }

    private func carry(_ relay: Relay) {
        open()
        self.relay = relay
        worker.metrics.countCarried(record)
        relay.onEnd = { [self] in end($0) }
    }

    // MARK: The end

    /// Ends it for a reason of ours.
    func cut(_ reason: CloseReason) {
        if let relay { return relay.cut(reason) }
        end(reason)
    }

    private func end(_ reason: CloseReason) {
        guard !isOver else { return }
        isOver = true
        stopWaiting()
        release(reason)
        account()
        let wasRelayed = relay != nil
        relay = nil
        let client = self.client
        self.client = nil
        // One that was taken, and has nowhere to go. A relay has seen to the end of its own.
        if !wasRelayed, client?.isOpen ?? false { client?.abort(reason) }
        record.reason = reason
        record.duration = worker.loop.now - began
        // Of requests each has had its own line.
        if !carriesRequests || reason.isError {
            open()
            meter.take()?.close(reason)
            worker.log(record)
        }
        worker.ended(self)
    }

    /// Ends it before it has begun, for want of room.
    func refuseUncounted(_ reason: CloseReason) {
        isOver = true
        release(reason)
        record.reason = reason
        worker.log(record)
    }

    private func release(_ reason: CloseReason) {
        connector?.cancel()
        connector = nil
        attempt?.cancel()
        attempt = nil
        let request = self.request
        self.request = nil
        request?.refuse(reason)
    }

    // MARK: Accounts

    /// Counts it as opened, under what is known of it now. Only the first call counts.
    private func open() {
        if meter == nil { meter = worker.metrics.open(record) }
    }

    func account() {
        guard let relay else {
            record.bytesFromClient = client?.bytesReceived ?? 0
            record.bytesToClient = client?.bytesSent ?? 0
            return
        }
        record.bytesFromClient = relay.bytesFromClient
        record.bytesToClient = relay.bytesToClient
        meter?.count(fromClient: relay.bytesFromClient, toClient: relay.bytesToClient)
    }
}
