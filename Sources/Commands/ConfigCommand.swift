import Documents

/// `warren config`: what a waypoint runs on, as its own `/config_dump` tells it: the routes of the services that it stands before, the
/// destinations that they lead to, and these destinations' endpoints.
public struct ConfigCommand {
    public enum Part: String, CaseIterable, Sendable {
        case routes, clusters, endpoints
    }

    let part: Part
    let dump: JSONAnswer

    init(_ part: Part, dump: JSONAnswer) {
        self.part = part
        self.dump = dump
    }

    /// Asks the waypoint.
    ///
    /// - Parameter name: `namespace/name` of the waypoint or of its pod; of a waypoint with several pods here the first that is ready
    ///   answers.
    public init(_ part: Part, of name: String, runDirectory: String) throws(CommandError) {
        let status = try MeshStatus(runDirectory: runDirectory)
        let client = AdminClient(socketPath: try Self.socket(of: name, in: status))
        let dump = try JSONAnswer(try client.page("/config_dump"), from: client.socketPath)
        guard dump["routes"] != nil, dump["destinations"] != nil else {
            throw .refused(
                "\(name) does not tell its routes: its warren-waypoint is of an earlier version than this warren. Start it again with the one of this version"
            )
        }
        self.init(part, dump: dump)
    }

    // MARK: Who is asked

    /// The admin socket of the waypoint that is meant.
    static func socket(of name: String, in status: MeshStatus) throws(CommandError) -> String {
        guard name.split(separator: "/", omittingEmptySubsequences: false).filter({ !$0.isEmpty }).count == 2
        else {
            throw .usage(
                "NAME is NAMESPACE/WAYPOINT or NAMESPACE/POD, such as shop/waypoint, not \(quoted(name))")
        }
        let here = status.waypoints.filter { $0.text("waypoint") == name || $0.daemonName == name }
            .sorted { ($0.daemonName ?? "") < ($1.daemonName ?? "") }
        let asked = here.first { $0.flag("ready") == true } ?? here.first
        if let asked, let socket = asked.daemonName.flatMap({ status.sockets[$0] }) { return socket }
        throw absence(of: name, in: status)
    }

    private static func absence(of name: String, in status: MeshStatus) -> CommandError {
        let known = status.control?.list("waypoints") ?? []
        let namespace = name.prefix { $0 != "/" }
        for waypoint in known {
            let pods = waypoint.texts("pods").map { "\(waypoint.text("namespace") ?? "?")/\($0)" }
            if waypoint.podName == name, pods.isEmpty {
                return .refused(
                    "waypoint \(name) does not run: no pod has the label gateway.networking.k8s.io/gateway-name: \(name.dropFirst(namespace.count + 1)). Add one"
                )
            }
            if waypoint.podName == name || pods.contains(name) {
                return .refused(
                    "waypoint \(waypoint.podName) does not run on this machine: none of its pods (\(pods.joined(separator: ", "))) answers here. `warren status waypoints` tells which are connected: ask on their machines, or start one"
                )
            }
        }
        let names = Set(known.map(\.podName) + status.waypoints.compactMap { $0.text("waypoint") })
        let there =
            names.isEmpty
            ? "there is none; a Gateway of class istio-waypoint makes one"
            : "there are \(names.sorted().joined(separator: ", "))"
        return .usage("no waypoint and no waypoint's pod is called \(quoted(name)); \(there)")
    }

    // MARK: What is shown

    public func text(_ form: OutputForm) -> String { form.write(value, table: table.text()) }

    var value: Value {
        switch part {
        case .routes: .list(dump.list("routes").map(\.value))
        case .clusters: .list(dump.list("destinations").map { $0.value.keeping { $0 != "endpoints" } })
        case .endpoints:
            .list(
                dump.list("destinations").map {
                    $0.value.keeping { ["host", "port", "subset", "endpoints"].contains($0) }
                })
        }
    }

    private var table: Table {
        switch part {
        case .routes: routes
        case .clusters: clusters
        case .endpoints: endpoints
        }
    }

    private var routes: Table {
        var table = Table("", "SERVICE", "PORT", "ROUTE", "MATCH", "DESTINATION")
        for port in dump.list("routes") {
            let service = port.text("service")
            let number = port.text("port")
            let requests = port.list("virtualHosts").flatMap { $0.list("routes") }
            let streams = port.list("streams")
            for (routes, anything) in [(requests, "any request"), (streams, "any connection")] {
                for route in routes {
                    let matches = route.list("matches").compactMap { $0.text("text") }
                    table.add(
                        service, number, route.text("name"),
                        matches.isEmpty ? anything : matches.joined(separator: " or "),
                        route["action"]?.text("text"))
                }
            }
            if requests.isEmpty, streams.isEmpty {
                table.add(service, number, nil, "any connection", "the service itself")
            }
        }
        return table
    }

    private var clusters: Table {
        var table = Table("", "HOST", "PORT", "SUBSET", "LOAD BALANCING", "LIMITS", "SOURCE")
        for destination in dump.list("destinations") {
            let limits = ["limits", "outlierDetection", "tls"].compactMap { destination[$0]?.text("text") }
                .filter { !$0.isEmpty }
            let sources = destination.texts("sources")
            table.add(
                destination.text("host"), destination.text("port"), destination.text("subset"),
                destination["loadBalancing"]?.text("text"),
                limits.isEmpty ? nil : limits.joined(separator: "; "),
                sources.isEmpty ? nil : sources.joined(separator: ", "))
        }
        return table
    }

    /// A destination without endpoints has a row too: that is what one looks for when requests fail.
    private var endpoints: Table {
        var table = Table("", "HOST", "PORT", "SUBSET", "ENDPOINT", "ADDRESS", "WEIGHT")
        for destination in dump.list("destinations") {
            let found = destination.list("endpoints")
            let (host, port) = (destination.text("host"), destination.text("port"))
            for endpoint in found {
                table.add(
                    host, port, destination.text("subset"), endpoint.text("uid"), endpoint.text("address"),
                    endpoint.text("weight"))
            }
            if found.isEmpty { table.add(host, port, destination.text("subset"), "none", nil, nil) }
        }
        return table
    }
}

extension Value {
    /// An object's members with such keys.
    fileprivate func keeping(_ isWanted: (String) -> Bool) -> Value {
        guard case .object(let members) = self else { return self }
        return .object(members.filter { isWanted($0.key) })
    }
}
