import Address
import Daemon
import EventLoop
import HTTP1
import Linux
import Log
import Metrics
import Transport

/// The node's own pages: admin on a Unix socket and on localhost, metrics and readiness for everybody.
final class AdminServer {
    private let agent: NodeAgent
    private let initialFilter = LogSystem.shared.filter
    private let logger = Logger(scope: "node.admin")
    private var servers: [HTTP1Server] = []

    init(_ loop: EventLoop, _ sockets: consuming NodeSockets, _ agent: NodeAgent) throws(SystemCallError) {
        self.agent = agent
        let access: AdminPage.Access = agent.configuration.allowsChangesOverTCP ? .full : .readOnly
        for parcel in sockets.admin {
            guard let socket = parcel.take() else { continue }
            servers.append(try HTTP1Server(on: loop, socket) { [unowned self] in serveOverTCP($0, access) })
        }
        if let socket = sockets.metrics?.take() {
            servers.append(try HTTP1Server(on: loop, socket) { [unowned self] in serveMetrics($0) })
        }
        if let socket = sockets.readiness?.take() {
            servers.append(try HTTP1Server(on: loop, socket) { [unowned self] in serveReadiness($0) })
        }
        servers.append(
            try HTTP1Server(on: loop, sockets.socket) { [unowned self] in serve($0, .full) })
    }

    func close() {
        for server in servers { server.close() }
    }

    // MARK: Metrics and readiness

    private func serveMetrics(_ exchange: HTTP1Exchange) {
        guard ["/metrics", "/stats/prometheus"].contains(exchange.request.path) else {
            return exchange.respond(HTTP1Response(status: 404, text: "no such page\n"))
        }
        // What is encoded is OpenMetrics either way, as ztunnel's is (ztunnel.md §7.1).
        let asksForOpenMetrics = exchange.request.fields["accept"]?.contains("openmetrics") == true
        let type = asksForOpenMetrics ? Registry.contentType : "text/plain; charset=utf-8"
        exchange.respond(HTTP1Response(status: 200, contentType: type, text: agent.registry.encode()))
    }

    private func serveReadiness(_ exchange: HTTP1Exchange) {
        guard exchange.request.path == "/healthz/ready" else {
            return exchange.respond(HTTP1Response(status: 404, text: "no such page\n"))
        }
        exchange.respond(readiness)
    }

    private var readiness: HTTP1Response {
        let pending = agent.pending
        return pending.isEmpty
            ? HTTP1Response(status: 200, text: "ready\n")
            : HTTP1Response(status: 500, text: "not ready, pending: \(pending.joined(separator: ", "))\n")
    }

    // MARK: Admin

    private func serveOverTCP(_ exchange: HTTP1Exchange, _ access: AdminPage.Access) {
        // A web page that has its name resolved to this machine must not read what is meant for who is on it.
        guard isLocalName(exchange.request.fields["host"] ?? "localhost") else {
            return exchange.respond(HTTP1Response(status: 403, text: "not by this name\n"))
        }
        serve(exchange, access)
    }

    private func serve(_ exchange: HTTP1Exchange, _ access: AdminPage.Access) {
        do throws(PageRefusal) {
            answer(exchange, try AdminPage(exchange.request, access))
        } catch {
            exchange.respond(error.response)
        }
    }

    private func answer(_ exchange: HTTP1Exchange, _ page: AdminPage) {
        switch page {
        case .index:
            exchange.respond(
                HTTP1Response(status: 200, contentType: "text/html; charset=utf-8", text: AdminPage.indexText)
            )
        case .configDump:
            agent.configDump { exchange.respond(.json($0.json)) }
        case .status:
            agent.status { exchange.respond(.json($0.json)) }
        case .version:
            exchange.respond(HTTP1Response(status: 200, text: BuildVersion.current.version + "\n"))
        case .ready:
            exchange.respond(readiness)
        case .explain(let namespace, let name, let destination):
            exchange.respond(agent.explain(namespace: namespace, name: name, to: destination))
        case .showLogging:
            exchange.respond(
                HTTP1Response(status: 200, text: "current log level is \(LogSystem.shared.filter)\n"))
        case .changeLogging(let filter):
            setFilter(filter, exchange)
        case .resetLogging:
            setFilter(initialFilter, exchange)
        case .drain:
            logger.info("told to drain")
            exchange.respond(HTTP1Response(status: 200, text: "draining\n"))
            agent.drain(removesCapture: false)
        case .quit(let removesCapture):
            logger.info("told to end", ["removes_capture": removesCapture])
            exchange.respond(HTTP1Response(status: 200, text: "shutdown now\n"))
            agent.drain(removesCapture: removesCapture)
        }
    }

    private func setFilter(_ filter: LogFilter, _ exchange: HTTP1Exchange) {
        LogSystem.shared.filter = filter
        logger.info("log level changed", ["level": "\(filter)"])
        exchange.respond(HTTP1Response(status: 200, text: "current log level is \(filter)\n"))
    }
}

/// A `Host` that means this machine whoever resolves it: `localhost` or an address, with or without a port.
func isLocalName(_ host: String) -> Bool {
    if host == "localhost" || host.hasPrefix("localhost:") { return true }
    if SocketAddress(host) != nil || IPAddress(host) != nil { return true }
    return host.hasPrefix("[") && host.hasSuffix("]") && IPAddress(String(host.dropFirst().dropLast())) != nil
}
