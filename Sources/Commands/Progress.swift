/// How far a mesh is on its way up: which nodes are ready, and what became of the pods they have to capture.
struct Progress: Equatable, CustomStringConvertible {
    private(set) var readyNodes: [String] = []
    /// What a node waits for, by its name.
    private(set) var waitingNodes: [String] = []
    private(set) var readyWaypoints: [String] = []
    private(set) var waitingWaypoints: [String] = []
    private(set) var captured = 0
    private(set) var pending: [String] = []
    /// Pods that their node will not capture, with the reason.
    private(set) var refused: [String] = []
    private(set) var isControlThere = false

    /// Asks the control component, every node and every waypoint.
    init(of plan: MeshPlan, asking client: (String) -> AdminClient) {
        func status(_ name: String) -> JSONAnswer? {
            let client = client(name)
            return (try? client.page("/status")).flatMap { try? JSONAnswer($0, from: client.socketPath) }
        }
        self.init(
            control: status("control"), nodes: plan.nodes.map { ($0.name, status($0.name)) },
            waypoints: plan.waypoints.map { ("\($0.namespace)/\($0.pod)", status($0.instance)) })
    }

    /// - Parameters:
    ///   - control: the control component's `/status`; nil when it does not answer.
    ///   - nodes: each node's `/status`.
    ///   - waypoints: that of each pod of a waypoint.
    init(
        control: JSONAnswer?, nodes: [(name: String, status: JSONAnswer?)],
        waypoints: [(name: String, status: JSONAnswer?)] = []
    ) {
        func sort(_ name: String, _ status: JSONAnswer?, _ ready: inout [String], _ waiting: inout [String]) {
            if status?.flag("ready") == true {
                ready.append(name)
            } else {
                let missing = status?.texts("pending").joined(separator: ", ") ?? "it does not answer yet"
                waiting.append("\(name) (\(missing))")
            }
        }
        for (name, status) in nodes { sort(name, status, &readyNodes, &waitingNodes) }
        for (name, status) in waypoints { sort(name, status, &readyWaypoints, &waitingWaypoints) }
        guard let control else { return }
        isControlThere = true
        let names = Set(nodes.map(\.name))
        for workload in control.list("workloads") where workload.flag("enrolled") == true {
            guard names.contains(workload.text("node") ?? "") else { continue }
            let name = workload.podName
            switch workload.text("state") {
            case "captured": captured += 1
            case "refused": refused.append("\(name): \(workload.text("reason") ?? "no reason given")")
            default: pending.append(name)
            }
        }
    }

    /// Nothing more is to be waited for.
    var isComplete: Bool {
        isControlThere && waitingNodes.isEmpty && waitingWaypoints.isEmpty && pending.isEmpty
    }

    var description: String {
        guard isComplete else {
            let parts =
                (isControlThere ? [] : ["warren-control does not answer"]) + waitingNodes.map { "node \($0)" }
                + waitingWaypoints.map { "waypoint \($0)" }
                + (pending.isEmpty ? [] : ["not captured yet: \(pending.joined(separator: ", "))"])
            return "waiting for " + parts.joined(separator: "; ")
        }
        var text = "the mesh is up: nodes \(readyNodes.joined(separator: ", ")); pods captured: \(captured)"
        if !readyWaypoints.isEmpty { text += "; waypoints: \(readyWaypoints.joined(separator: ", "))" }
        if !refused.isEmpty { text += "; REFUSED: " + refused.joined(separator: "; ") }
        return text
    }
}
