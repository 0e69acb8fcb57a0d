import Daemon
import EventLoop
import HTTP1
import Linux
import Log
import Metrics
import Transport

/// The sockets of a waypoint's pages, opened before it gives up what it was started with.
struct PageSockets: ~Copyable {
    let admin: Socket
    let metrics: Parcel<Socket>?
    let readiness: Parcel<Socket>?

    init(_ configuration: WaypointConfiguration) throws(SystemCallError) {
        let metrics = try configuration.metricsAddress.flatMap { (address) throws(SystemCallError) in
            try listenForPages(on: address)
        }
        let readiness = try configuration.readinessAddress.flatMap { (address) throws(SystemCallError) in
            try listenForPages(on: address)
        }
        admin = try Socket.listen(onPath: configuration.adminSocket, mode: 0o600)
        self.metrics = metrics
        self.readiness = readiness
    }
}

/// The waypoint's own pages: admin on a Unix socket, metrics and readiness for everybody.
final class AdminServer {
    private let agent: WaypointAgent
    private let initialFilter = LogSystem.shared.filter
    private let logger = Logger(scope: "waypoint.admin")
    private var servers: [HTTP1Server] = []

    init(_ loop: EventLoop, _ sockets: consuming PageSockets, _ agent: WaypointAgent) throws(SystemCallError)
    {
        self.agent = agent
        if let socket = sockets.metrics?.take() {
            servers.append(try HTTP1Server(on: loop, socket) { [unowned self] in serveInPublic($0) })
        }
        if let socket = sockets.readiness?.take() {
            servers.append(try HTTP1Server(on: loop, socket) { [unowned self] in serveInPublic($0) })
        }
        servers.append(try HTTP1Server(on: loop, sockets.admin) { [unowned self] in serve($0) })
    }

    func close() {
        for server in servers { server.close() }
    }

    private func serveInPublic(_ exchange: HTTP1Exchange) {
        switch exchange.request.path {
        case "/metrics", "/stats/prometheus", "/ready", "/healthz/ready": serve(exchange)
        default: exchange.respond(HTTP1Response(status: 404, text: "no such page\n"))
        }
    }

    private func serve(_ exchange: HTTP1Exchange) {
        let request = exchange.request
        switch (request.method, request.path) {
        case ("GET", "/status"): agent.status { exchange.respond(.json($0)) }
        case ("GET", "/config_dump"): exchange.respond(.json(agent.configDump()))
        case ("GET", "/metrics"), ("GET", "/stats/prometheus"):
            let asksForOpenMetrics = request.fields["accept"]?.contains("openmetrics") == true
            let type = asksForOpenMetrics ? Registry.contentType : "text/plain; charset=utf-8"
            exchange.respond(HTTP1Response(status: 200, contentType: type, text: agent.registry.encode()))
        case ("GET", "/ready"), ("GET", "/healthz/ready"): exchange.respond(readiness)
        case ("GET", "/version"):
            exchange.respond(HTTP1Response(status: 200, text: BuildVersion.current.version + "\n"))
        case ("GET", "/logging"), ("POST", "/logging"): setLogging(exchange)
        case ("POST", "/drain"), ("POST", "/quitquitquit"):
            logger.info("told to end")
            exchange.respond(HTTP1Response(status: 200, text: "draining\n"))
            agent.drain()
        case (_, "/status"), (_, "/config_dump"), (_, "/metrics"), (_, "/stats/prometheus"), (_, "/ready"),
            (_, "/healthz/ready"), (_, "/version"), (_, "/logging"), (_, "/drain"), (_, "/quitquitquit"):
            exchange.respond(HTTP1Response(status: 405, text: "method not allowed\n"))
        default: exchange.respond(HTTP1Response(status: 404, text: "no such page\n"))
        }
    }

    private var readiness: HTTP1Response {
        let pending = agent.pending
        return pending.isEmpty
            ? HTTP1Response(status: 200, text: "ready\n")
            : HTTP1Response(status: 500, text: "not ready, pending: \(pending.joined(separator: ", "))\n")
    }

    private func setLogging(_ exchange: HTTP1Exchange) {
        let request = exchange.request
        if let text = request.queryValues("level").first {
            guard request.method == "POST", let filter = LogFilter(text) else {
                return exchange.respond(
                    HTTP1Response(
                        status: 400,
                        text: "POST with level= error, warn, info, debug or trace, or scope=level,…\n"))
            }
            LogSystem.shared.filter = filter
            logger.info("log level changed", ["level": "\(filter)"])
        } else if request.method == "POST", !request.queryValues("reset").isEmpty {
            LogSystem.shared.filter = initialFilter
        }
        exchange.respond(
            HTTP1Response(status: 200, text: "current log level is \(LogSystem.shared.filter)\n"))
    }
}
