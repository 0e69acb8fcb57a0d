import Documents
import Linux

/// What the daemons of this machine say about the mesh: the control component, which knows every node from its stream,
/// and each node's daemon that has its socket here.
public struct MeshStatus {
    /// nil when no control component answers on this machine.
    let control: JSONAnswer?
    /// By name.
    let nodes: [JSONAnswer]
    /// Each pod of a waypoint.
    let waypoints: [JSONAnswer]
    /// Where daemons were asked, by node, or `namespace/name` of a waypoint's pod.
    let sockets: [String: String]
    /// Sockets at which nobody answered, with the reason.
    let silent: [String]

    /// Parts of the report.
    public enum Section: String, CaseIterable, Sendable {
        case nodes, waypoints, workloads, certificates, tunnels, policies
    }

    /// - Parameter daemons: nodes and waypoints.
    init(
        control: JSONAnswer?, daemons: [JSONAnswer], sockets: [String: String] = [:], silent: [String] = []
    ) {
        self.control = control
        self.sockets = sockets
        nodes = daemons.filter { $0.text("waypoint") == nil }
        waypoints = daemons.filter { $0.text("waypoint") != nil }
        self.silent = silent
    }

    /// Asks everyone who has a socket in the directory.
    public init(runDirectory: String) throws(CommandError) {
        let names: [String]
        do { names = try listDirectory(runDirectory).filter { $0.hasSuffix(".sock") } } catch {
            throw .unreachable(socket: "\(runDirectory)/control.sock", error)
        }
        var control: JSONAnswer?
        var daemons: [JSONAnswer] = []
        var sockets: [String: String] = [:]
        var silent: [String] = []
        for name in names {
            let path = "\(runDirectory)/\(name)"
            do throws(CommandError) {
                let answer = try JSONAnswer(try AdminClient(socketPath: path).page("/status"), from: path)
                if name == "control.sock" {
                    control = answer
                } else {
                    daemons.append(answer)
                    if let name = answer.daemonName { sockets[name] = path }
                }
            } catch {
                silent.append(error.description)
            }
        }
        guard control != nil || !daemons.isEmpty else {
            let missing = SystemCallError(call: "connect", subject: runDirectory, number: noSuchFile)
            throw silent.first.map { .failed($0) }
                ?? .unreachable(socket: "\(runDirectory)/control.sock", missing)
        }
        self.init(control: control, daemons: daemons, sockets: sockets, silent: silent)
    }

    /// The report.
    ///
    /// - Parameter section: one part of it; nil for all.
    public func text(_ form: OutputForm, _ section: Section?, now: WallClock) -> String {
        form.write(value, table: tables(section, now: now))
    }

    /// Everything that was answered, as it was.
    var value: Value {
        .object([
            Value.Member("control", control?.value ?? .null),
            Value.Member("nodes", .list(nodes.map(\.value))),
            Value.Member("waypoints", .list(waypoints.map(\.value))),
        ])
    }

    // MARK: Tables

    func tables(_ section: Section?, now: WallClock) -> String {
        var parts: [String] = []
        for part in Section.allCases where section == nil || section == part {
            let table =
                switch part {
                case .nodes: nodeTable(now)
                case .waypoints: waypointTable(now)
                case .workloads: workloadTable()
                case .certificates: certificateTable(now)
                case .tunnels: tunnelTable(now)
                case .policies: policyTable()
                }
            // An empty part is shown when it was asked for by name.
            if !table.rows.isEmpty || section == part { parts.append(table.text()) }
        }
        if section == nil { parts += remarks(now) }
        return parts.joined(separator: "\n")
    }

    private func node(named name: String?) -> JSONAnswer? { nodes.first { $0.text("node") == name } }

    private func nodeTable(_ now: WallClock) -> Table {
        var table = Table("", "NODE", "STATE", "CONNECTED", "PODS", "TUNNELS", "NAMESPACE")
        var shown: Set<String> = []
        for known in control?.list("nodes") ?? [] {
            let name = known.text("name") ?? "?"
            shown.insert(name)
            let local = node(named: name)
            let connected = known.flag("connected") == true
            table.add(
                name, state(of: local, connected: connected),
                connected ? known.text("since").flatMap { agoText(since: $0, now: now) } : "no",
                known.text("pods"), local.map { String($0.list("tunnels").count) },
                known.text("networkNamespace"))
        }
        for local in nodes where !shown.contains(local.text("node") ?? "") {
            let link = local["control"]
            table.add(
                local.text("node"), state(of: local, connected: link?.flag("connected") ?? false),
                link?.text("since").flatMap { agoText(since: $0, now: now) } ?? "no",
                String(local.list("workloads").count), String(local.list("tunnels").count), nil)
        }
        return table
    }

    private func waypointTable(_ now: WallClock) -> Table {
        var table = Table("", "WAYPOINT", "POD", "STATE", "CONNECTED", "CONNECTIONS", "TUNNELS", "SERVICES")
        var shown: Set<String> = []
        func add(_ local: JSONAnswer) {
            let link = local["control"]
            let connected = link?.flag("connected") ?? false
            table.add(
                local.text("waypoint"), local.text("pod"), state(of: local, connected: connected),
                connected ? link?.text("since").flatMap { agoText(since: $0, now: now) } : "no",
                local.text("connections"), String(local.list("tunnels").count),
                local.texts("services").joined(separator: ","))
        }
        for local in waypoints {
            shown.insert("\(local.text("waypoint") ?? "?") \(local.text("pod") ?? "")")
            add(local)
        }
        for known in control?.list("waypoints") ?? [] {
            let pods = known.texts("pods")
            for pod in pods where !shown.contains("\(known.podName) \(pod)") {
                // Of several pods the control component cannot tell which are connected.
                let streams = known.count("streams") ?? 0
                let here = waypoints.count { $0.text("waypoint") == known.podName }
                table.add(
                    known.podName, pod, streams > here ? "connected" : "absent", nil, nil, nil, nil)
            }
            if pods.isEmpty { table.add(known.podName, nil, "no pod", nil, nil, nil, nil) }
        }
        return table
    }

    private func state(of local: JSONAnswer?, connected: Bool) -> String {
        guard let local else { return connected ? "connected" : "absent" }
        if local.flag("ready") == true { return connected ? "ready" : "ready, on its last snapshot" }
        let pending = local.texts("pending")
        return "not ready" + (pending.isEmpty ? "" : ": " + pending.joined(separator: ", "))
    }

    private func workloadTable() -> Table {
        var table = Table(
            "", "NAMESPACE", "POD", "NODE", "ADDRESSES", "ACCOUNT", "STATE", "CAPTURE", "IN", "OUT",
            "REASON")
        var shown: Set<String> = []
        func add(_ pod: JSONAnswer, node name: String?, detail: JSONAnswer?) {
            table.add(
                pod.text("namespace"), pod.text("name"), name, pod.texts("addresses").joined(separator: ","),
                pod.text("serviceAccount"), pod.text("state"), detail?.text("capture"),
                detail?.text("inbound"), detail?.text("outbound"), pod.text("reason"))
        }
        // By name: the control component's uids are those of the wire, which a node does not show.
        for pod in control?.list("workloads") ?? [] {
            let name = pod.text("node")
            shown.insert(pod.podName)
            let local = node(named: name)?.list("workloads").first { $0.podName == pod.podName }
            add(pod, node: name, detail: local)
        }
        for local in nodes {
            for pod in local.list("workloads") where !shown.contains(pod.podName) {
                add(pod, node: local.text("node"), detail: pod)
            }
        }
        return table
    }

    private func certificateTable(_ now: WallClock) -> Table {
        var table = Table("", "CERTIFICATE", "NODE", "STATE", "LEFT", "SERIAL")
        for local in nodes + waypoints {
            for certificate in local.list("certificates") {
                table.add(
                    certificate.text("identity"), local.daemonName, certificate.text("state"),
                    certificate.text("notAfter").flatMap { remainingText(until: $0, now: now) },
                    certificate.text("serialNumber"))
            }
        }
        if let authority = control?["authority"], let end = authority.text("notAfter") {
            let domain = authority.text("trustDomain") ?? ""
            table.add(
                "the mesh's root (\(domain))", nil, "Available", remainingText(until: end, now: now), nil)
        }
        return table
    }

    private func tunnelTable(_ now: WallClock) -> Table {
        var table = Table("", "NODE", "DIRECTION", "FROM", "TO", "ADDRESS", "STREAMS", "AGE")
        for local in nodes + waypoints {
            for tunnel in local.list("tunnels") {
                table.add(
                    local.daemonName, tunnel.text("direction"), tunnel.text("source"),
                    tunnel.text("destination"), tunnel.text("address"), tunnel.text("streams"),
                    tunnel.text("since").flatMap { agoText(since: $0, now: now) })
            }
        }
        return table
    }

    private func policyTable() -> Table {
        var table = Table("", "NAMESPACE", "POLICY", "ACTION", "SCOPE")
        for policy in control?.list("policies") ?? [] {
            table.add(
                policy.text("namespace"), policy.text("name"), policy.text("action"), policy.text("scope"))
        }
        return table
    }

    /// What somebody should look at.
    private func remarks(_ now: WallClock) -> [String] {
        var lines = silent
        let configuration = control?["configuration"]
        lines += (configuration?.texts("errors") ?? []).map { "configuration: \($0)" }
        lines += (configuration?.texts("warnings") ?? []).map { "configuration: \($0)" }
        for known in control?.list("nodes") ?? [] {
            if let rejected = known.text("rejected") {
                lines.append("node \(known.text("name") ?? "?") rejected an update: \(rejected)")
            }
        }
        for known in control?.list("waypoints") ?? [] {
            if let rejected = known.text("rejected") {
                lines.append("waypoint \(known.podName) rejected an update: \(rejected)")
            }
        }
        return lines.isEmpty ? [] : [lines.map(Table.printable).joined(separator: "\n") + "\n"]
    }
}

extension JSONAnswer {
    /// A node's name, or the `namespace/name` of a waypoint's pod.
    var daemonName: String? {
        text("node")
            ?? (text("waypoint") ?? "?").split(separator: "/").first.map { "\($0)/\(text("pod") ?? "?")" }
    }

    /// `namespace/name` of what a report is of.
    var podName: String { "\(text("namespace") ?? "?")/\(text("name") ?? "?")" }
}

/// ENOENT.
private let noSuchFile: Int32 = 2
