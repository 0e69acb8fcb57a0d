import Daemon
import Decision
import EventLoop
import HTTP2
import L7
import Linux
import Mesh
import TLS
import Transport
import Tunnel

/// Connects requests to endpoints, as the waypoint: through tunnels, or over TCP to those that are not in the mesh.
final class EndpointConnector: UpstreamConnector {
    private unowned let worker: WaypointWorker

    init(_ worker: WaypointWorker) {
        self.worker = worker
    }

    func connect(
        to endpoint: UpstreamEndpoint, of upstream: Upstream,
        _ completion: @escaping (ConnectOutcome) -> Void
    ) -> () -> Void {
        guard let own = worker.own, let workload = worker.snapshot.workload(uid: endpoint.id) else {
            return later(.failed(.connectFailed("\(endpoint.id) is gone")), completion)
        }
        var trace = Trace.off
        switch way(to: workload, at: endpoint.address, of: nil, from: own, trace: &trace) {
        case .plain(let plan): return dial(plan, completion)
        case .tunnel(let plan): return open(plan, own, completion)
        case .refuse(let reason): return later(.failed(reason), completion)
        case .sameNode: return later(.failed(.failed("a waypoint joins nobody")), completion)
        }
    }

    private func later(
        _ outcome: ConnectOutcome, _ completion: @escaping (ConnectOutcome) -> Void
    ) -> () -> Void {
        let timer = CallbackTimer { completion(outcome) }
        worker.loop.schedule(timer, after: .zero)
        return { [worker] in worker.loop.cancel(timer) }
    }

    private func dial(
        _ plan: PlainPlan, _ completion: @escaping (ConnectOutcome) -> Void
    ) -> () -> Void {
        do throws(SystemCallError) {
            let dialled = try Socket.dial(plan.address, ConnectOptions(keepAlive: .ztunnel))
            if dialled.isConnected {
                return later(
                    .connected(SocketChannel(loop: worker.loop, dialled.socket)), completion)
            }
            let connector = try Connector(on: worker.loop, dialled.socket, within: .seconds(10)) {
                [unowned self] result in
                switch consume result {
                case .connected(let socket):
                    completion(.connected(SocketChannel(loop: worker.loop, socket)))
                case .failed(let number):
                    completion(.failed(.connectFailed("\(plan.address): \(errorText(number))")))
                case .timedOut: completion(.failed(.connectTimedOut))
                case .cancelled: break
                }
            }
            return { connector.cancel() }
        } catch {
            return later(.failed(.connectFailed("\(error)")), completion)
        }
    }

    private func open(
        _ plan: TunnelPlan, _ own: WorkloadEntry, _ completion: @escaping (ConnectOutcome) -> Void
    ) -> () -> Void {
        let context: TLSContext
        switch worker.credentials[own.identity] {
        case .pending:
            return later(.failed(.identityUnavailable("no certificate yet for \(own.identity)")), completion)
        case .unavailable(let reason): return later(.failed(.identityUnavailable(reason)), completion)
        case .available(let credentials):
            do throws(TLSError) { context = try credentials.client() } catch {
                return later(.failed(.identityUnavailable("\(error)")), completion)
            }
        }
        // Several clients' requests share a connection: it speaks for nobody but us.
        let target = TunnelTarget(
            source: own.identity, expected: plan.expected, address: plan.address, authority: plan.authority,
            headers: [Header("baggage", TunnelHeaders.baggage(of: own.workload))])
        let attempt = worker.tunnelPool.open(target, context: context) { outcome in
            switch outcome {
            case .opened(let stream, _, _): completion(.connected(stream))
            case .failed(let reason), .lost(let reason): completion(.failed(reason))
            }
        }
        return { attempt.cancel() }
    }
}
