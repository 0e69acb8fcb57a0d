import Address
import Daemon
import EventLoop
import Linux
import Mesh
import TLS
import Telemetry
import Transport
import Tunnel

/// A tunnel from a client's node: handshake, then one connection for each CONNECT.
final class WaypointTunnel: TunnelServerDelegate {
    private unowned let worker: WaypointWorker
    private let peer: SocketAddress
    private var local: SocketAddress?
    private var server: TunnelServer?
    /// What one peer's tunnel moves in a turn of the loop, so that it cannot keep the worker from others.
    private let share: TurnShare
    private var isOver = false

    init(_ worker: WaypointWorker, from peer: SocketAddress) {
        self.worker = worker
        self.peer = peer
        share = TurnShare(worker.loop)
    }

    /// The peer has yet to prove who it is.
    var isHandshaking: Bool { !isOver && server?.peer == nil }

    /// Begins the handshake, as who we are at present.
    func begin(_ socket: consuming Socket) {
        local = socket.localAddress
        guard let own = worker.own else {
            socket.reset()
            return fail(.unknownLocalWorkload("this waypoint"))
        }
        switch worker.credentials[own.identity] {
        case .pending:
            socket.reset()
            fail(.identityUnavailable("no certificate yet for \(own.identity)"))
        case .unavailable(let reason):
            socket.reset()
            fail(.identityUnavailable(reason))
        case .available(let credentials):
            do {
                server = try TunnelServer(
                    loop: worker.loop, socket: socket, context: try credentials.server(),
                    configuration: worker.channelConfiguration, share: share, delegate: self)
            } catch let error as TLSError {
                fail(.identityUnavailable("\(error)"))
            } catch {
                fail(.failed("\(error)"))
            }
        }
    }

    func tunnel(_ server: TunnelServer, requested request: TunnelRequest) {
        // TLS has let in nobody without an identity; it is here to be sure of.
        guard let identity = request.peer.identity else {
            return request.refuse(.tlsFailed("the peer has no identity"))
        }
        worker.begin(WaypointConnection(worker, request, of: identity, from: peer, share))
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
    var report: TunnelReport? {
        guard let server, let client = server.peer, let local else { return nil }
        return TunnelReport(
            direction: .inbound, source: client.identity?.uri ?? peer.address.description,
            destination: worker.own?.identity.uri ?? local.address.description, address: local,
            streamCount: server.openStreams, congestionControl: server.congestionControl,
            worker: worker.index, since: server.since)
    }

    /// Lets connections go on and takes no more.
    func drain() {
        guard let server else { return end() }
        server.drain()
    }

    func close() {
        guard let server else { return end() }
        server.close()
    }

    private func fail(_ reason: CloseReason) {
        log(reason)
        end()
    }

    private func end() {
        guard !isOver else { return }
        isOver = true
        server = nil
        worker.ended(self)
    }

    /// A tunnel that carried nothing, or a request that asked for none, has no connection to be told of.
    private func log(_ reason: CloseReason, from identity: Identity? = nil) {
        guard reason.isError else { return }
        worker.log(
            ConnectionRecord(
                direction: .waypoint, source: .init(address: peer, identity: identity),
                destination: .init(address: local), reason: reason))
    }
}
