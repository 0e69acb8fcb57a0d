import Documents
import HTTP1
import Log
import Mesh
import Metrics

/// The pages of the control component's admin socket.
public struct AdminPages {
    private let server: ControlServer
    private let version: String
    private let directory: String
    private let stop: () -> Void

    /// - Parameter stop: ends the daemon in order.
    public init(_ server: ControlServer, version: String, directory: String, stop: @escaping () -> Void) {
        self.server = server
        self.version = version
        self.directory = directory
        self.stop = stop
    }

    /// What everybody may see over TCP.
    public func respondInPublic(to request: HTTP1Request) -> HTTP1Response {
        switch request.path {
        case "/metrics", "/healthz/ready", "/version": respond(to: request)
        default: HTTP1Response(status: 404, text: "not found\n")
        }
    }

    /// All pages.
    public func respond(to request: HTTP1Request) -> HTTP1Response {
        switch (request.method, request.path) {
        case ("GET", "/healthz/ready"):
            return server.isReady
                ? HTTP1Response(status: 200, text: "ready\n")
                : HTTP1Response(
                    status: 500,
                    text: "not ready, pending: \(server.pending.sorted().joined(separator: ", "))\n")
        case ("GET", "/version"): return json(["version": .string(version)])
        case ("GET", "/status"): return json(server.statusReport(version: version, directory: directory))
        case ("GET", "/config_dump"): return json(server.configurationDump())
        case ("GET", "/metrics"):
            return HTTP1Response(
                status: 200, contentType: Registry.contentType, text: Registry.shared.encode())
        case ("POST", "/logging"): return setLogging(request)
        case ("POST", "/tokens"): return makeToken(request)
        case ("POST", "/quitquitquit"):
            stop()
            return HTTP1Response(status: 200, text: "shutdown now\n")
        case (_, "/healthz/ready"), (_, "/version"), (_, "/status"), (_, "/config_dump"), (_, "/metrics"),
            (_, "/logging"), (_, "/tokens"), (_, "/quitquitquit"):
            return HTTP1Response(status: 405, text: "method not allowed\n")
        default: return HTTP1Response(status: 404, text: "not found\n")
        }
    }

    private func json(_ value: Value) -> HTTP1Response {
        HTTP1Response(status: 200, contentType: "application/json", text: value.json(pretty: true) + "\n")
    }

    private func setLogging(_ request: HTTP1Request) -> HTTP1Response {
        if let text = request.queryValues("level").last {
            guard let filter = LogFilter(text) else {
                return HTTP1Response(
                    status: 400, text: "\(quoted(text)) is no log level: try info or xds=debug,info\n")
            }
            LogSystem.shared.filter = filter
        }
        return HTTP1Response(status: 200, text: "current log level is \(LogSystem.shared.filter)\n")
    }

    private func makeToken(_ request: HTTP1Request) -> HTTP1Response {
        let callers =
            request.queryValues("node").filter { !$0.isEmpty }.map(Caller.node)
            + request.queryValues("waypoint").compactMap { NamespacedName($0).map(Caller.waypoint) }
        guard callers.count == 1, let caller = callers.first else {
            return HTTP1Response(
                status: 400,
                text:
                    "the query has to name a node or a waypoint: ?node=NAME or ?waypoint=NAMESPACE/NAME, and &ttl=SECONDS\n"
            )
        }
        guard caller.isPart(of: server.configuration.publication.resources) else {
            return HTTP1Response(status: 404, text: "no \(caller) is in the configuration\n")
        }
        let text = request.queryValues("ttl").last ?? "3600"
        guard let life = Int64(text), (1...TokenFiles.longestLife).contains(life) else {
            return HTTP1Response(
                status: 400,
                text: "ttl has to be between 1 and \(TokenFiles.longestLife) seconds, not \(quoted(text))\n")
        }
        do {
            return HTTP1Response(status: 200, text: try server.tokens.make(for: caller, life: life))
        } catch { return HTTP1Response(status: 500, text: "\(error)\n") }
    }
}
