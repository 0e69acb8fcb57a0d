// The proxy of requests on plain TCP, for Tests/interop.
//
//   l7-proxy NAME=[h2:]PORT[,PORT...]...
//
// Listens on a free port of 127.0.0.1 and prints it. A path /NAME/... goes to 127.0.0.1:PORT without the name, every other path to the first
// NAME, as its gRPC methods do. For each exchange it prints `STATUS FLAGS ATTEMPTS METHOD PATH`. Connections that are not HTTP are relayed to the
// first NAME. Special paths: /-/redirect, /-/direct, /-/abort (503, injected), /-/timeout (first NAME within 100 ms).
import Address
import EventLoop
import Glibc
import HTTP2
import L7
import Linux
import Mesh
import Routing
import Transport
import Tunnel

func say(_ line: String) {
    print(line)
    fflush(nil)
}

/// Connects over TCP.
final class Dialer: UpstreamConnector, UpstreamResolver, ExchangeObserver {
    private let loop: EventLoop
    var upstreams: [Destination: Upstream] = [:]

    init(_ loop: EventLoop) {
        self.loop = loop
    }

    func upstream(for destination: Destination) -> Upstream? { upstreams[destination] }

    func connect(
        to endpoint: UpstreamEndpoint, of upstream: Upstream, _ completion: @escaping (ConnectOutcome) -> Void
    ) -> () -> Void {
        dial(endpoint.address, completion)
    }

    func dial(_ address: SocketAddress, _ completion: @escaping (ConnectOutcome) -> Void) -> () -> Void {
        do throws(SystemCallError) {
            let connector = try Connector(on: loop, try Socket.connect(to: address)) { [loop] result in
                switch consume result {
                case .connected(let socket): completion(.connected(SocketChannel(loop: loop, socket)))
                case .failed(let number): completion(.failed(.connectFailed(errorText(number))))
                case .timedOut: completion(.failed(.connectTimedOut))
                case .cancelled: break
                }
            }
            return { connector.cancel() }
        } catch {
            let failure = "\(error)"
            let timer = loop.schedule(after: .zero) { completion(.failed(.connectFailed(failure))) }
            return { [loop] in loop.cancel(timer) }
        }
    }

    func exchangeEnded(_ record: ExchangeRecord) {
        say(
            "\(record.status) \(record.flags) \(record.attempts) \(record.request.method ?? "-") \(record.request.path ?? "-")"
        )
    }
}

func fail(_ message: String) -> Never {
    say("l7-proxy: \(message)")
    exit(2)
}

func forward(
    _ name: String, _ index: Int, _ match: [RequestMatch], _ change: (inout Forwarding) -> Void = { _ in }
) -> Route {
    var forwarding = Forwarding([WeightedDestination(Destination(name))])
    change(&forwarding)
    return Route(.init(object: "arguments", index: index), matches: match, action: .forward(forwarding))
}

func run() throws {
    ignoreSIGPIPE()
    let loop = try EventLoop(name: "l7-proxy")
    let dialer = Dialer(loop)
    var names: [String] = []
    var first: SocketAddress?
    for argument in CommandLine.arguments.dropFirst() {
        let parts = argument.split(separator: "=", maxSplits: 1)
        guard parts.count == 2 else { fail("\(argument) is not NAME=PORT") }
        let name = String(parts[0])
        let speaksHTTP2 = parts[1].hasPrefix("h2:")
        var configuration = Upstream.Configuration()
        configuration.speaksHTTP2 = speaksHTTP2
        configuration.connectTimeout = .seconds(2)
        let upstream = Upstream(loop: loop, Destination(name), configuration, connector: dialer)
        let addresses = (speaksHTTP2 ? parts[1].dropFirst(3) : parts[1]).split(separator: ",")
            .compactMap { SocketAddress("127.0.0.1:\($0)") }
        upstream.update(addresses.map { UpstreamEndpoint(id: "\($0)", address: $0) })
        dialer.upstreams[upstream.destination] = upstream
        names.append(name)
        first = first ?? addresses.first
    }
    guard let main = names.first, let first else { fail("no service") }
    var abort = forward(main, 2, [RequestMatch(path: .exact("/-/abort"))]) {
        $0.fault = Fault(abort: .init(.http(503), share: .all))
    }
    abort.responseHeaders.set = [.init("x-aborted", "yes")]
    var routes = [
        Route(
            .init(object: "arguments", index: 0), matches: [RequestMatch(path: .exact("/-/redirect"))],
            action: .redirect(Redirect(status: 302, path: .full("/there")))),
        Route(
            .init(object: "arguments", index: 1), matches: [RequestMatch(path: .exact("/-/direct"))],
            action: .respond(DirectResponse(status: 200, body: Array("direct\n".utf8)))),
        abort,
        forward(main, 3, [RequestMatch(path: .prefix("/-/timeout"))]) { $0.timeout = .milliseconds(100) },
    ]
    for (index, name) in names.enumerated() {
        routes.append(
            forward(name, 4 + index, [RequestMatch(path: .prefix("/\(name)/"))]) {
                $0.rewrite = Rewrite(path: .matched("/"))
            })
    }
    routes.append(forward(main, 4 + names.count, []))
    let service = HTTPService(
        loop: loop, port: .unknown, routes: try RoutingTable([VirtualHost("arguments", routes: routes)]),
        resolver: dialer)
    service.observer = dialer
    service.onBytes = { (channel, _, early) in
        _ = dialer.dial(first) { outcome in
            guard case .connected(let server) = outcome else { return channel.abort(.failed("no server")) }
            ChannelRelay(loop: loop, client: channel, server: server).start(early: early)
        }
    }
    guard let any = SocketAddress("127.0.0.1:0") else { fail("no address") }
    let socket = try Socket.listen(on: any)
    let port = socket.localAddress?.port ?? 0
    let listener = try Listener(on: loop, socket) { accepted in
        let peer = accepted.peer
        service.serve(SocketChannel(loop: loop, accepted.socket), from: ClientContext(address: peer))
    }
    say("port \(port)")
    withExtendedLifetime(listener) { loop.run() }
}

do { try run() } catch { fail("\(error)") }
