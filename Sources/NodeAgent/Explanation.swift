import Address
import Decision
import Mesh
import Telemetry

/// What would become of a connection, and why: the data path's own decisions, asked with their reasons.
///
/// Where several endpoints could be chosen it shows one of the choices that could be made.
struct Explanation {
    let source: WorkloadEntry
    let destination: SocketAddress
    let plan: OutboundPlan
    let steps: [String]
    let waypoint: Waypoint?
    let inbound: Inbound?

    /// What the waypoint would do with it, as far as this node's configuration tells.
    struct Waypoint {
        let plan: OutboundPlan
        let steps: [String]
    }

    /// What the destination's node would say, as far as this node's configuration tells.
    struct Inbound {
        let plan: InboundPlan
        let steps: [String]
    }

    /// - Parameters:
    ///   - source: the workload that would open the connection.
    ///   - destination: what it would connect to.
    ///   - held: the pods of this daemon.
    init(
        from source: WorkloadEntry, to destination: SocketAddress, held: HeldPods, snapshot: Snapshot,
        randomness: inout some RandomNumberGenerator
    ) {
        self.source = source
        self.destination = destination
        var trace = Trace.recording
        plan = outbound(
            from: source, at: source.workload.addresses.first { $0.isIPv4 == destination.address.isIPv4 },
            to: destination,
            held: held, snapshot: snapshot, randomness: &randomness, trace: &trace)
        var (caller, onward) = (source, plan)
        if case .tunnel(let tunnel) = plan, tunnel.hop == .waypoint {
            let hop = Self.waypoint(at: tunnel, from: source, snapshot: snapshot, randomness: &randomness)
            (caller, onward) = (tunnel.workload, hop.plan)
            waypoint = hop
        } else {
            waypoint = nil
        }
        let (inbound, note) = Self.inbound(for: onward, from: caller, snapshot: snapshot)
        self.inbound = inbound
        steps = trace.steps + (note.map { [$0] } ?? [])
    }

    private static func waypoint(
        at tunnel: TunnelPlan, from source: WorkloadEntry, snapshot: Snapshot,
        randomness: inout some RandomNumberGenerator
    ) -> Waypoint {
        var trace = Trace.recording
        let request = WaypointRequest(
            authority: tunnel.authority, peer: source.identity,
            source: source.workload.addresses.first { $0.isIPv4 == tunnel.address.address.isIPv4 } ?? .anyIPv4
        )
        let verdict = Decision.waypoint(
            request, at: tunnel.workload,
            policies: snapshot.attachedPolicySet(of: tunnel.workload.workload), snapshot: snapshot,
            trace: &trace)
        switch verdict {
        case .refuse(let reason): return Waypoint(plan: .refuse(reason), steps: trace.steps)
        case .serve(let target):
            let plan = endpoint(
                of: target, from: tunnel.workload, snapshot: snapshot, randomness: &randomness, trace: &trace)
            return Waypoint(plan: plan, steps: trace.steps)
        }
    }

    /// - Returns: also a sentence for why there is no inbound side to show, if that needs one.
    private static func inbound(
        for plan: OutboundPlan, from source: WorkloadEntry, snapshot: Snapshot
    ) -> (Inbound?, note: String?) {
        var trace = Trace.recording
        let tunnel: TunnelPlan
        switch plan {
        case .tunnel(let plan): tunnel = plan
        case .sameNode(let joined):
            let connection = Connection(
                peer: source.identity, source: joined.source, destination: joined.address)
            let verdict = admit(
                connection, workload: joined.workload, snapshot: snapshot, trace: &trace)
            return (Inbound(plan: verdict, steps: trace.steps), nil)
        case .plain, .refuse: return (nil, nil)
        }
        // Who calls as the source is seen to come from its address of the family that is dialled.
        let local = tunnel.address.address
        guard let address = source.workload.addresses.first(where: { $0.isIPv4 == local.isIPv4 }) else {
            return (nil, "the source has no address of the destination's family")
        }
        let request = InboundRequest(
            authority: tunnel.authority, peer: source.identity, source: address, local: local)
        let verdict = Decision.inbound(request, workload: tunnel.workload, snapshot: snapshot, trace: &trace)
        return (Inbound(plan: verdict, steps: trace.steps), nil)
    }
}

extension Explanation {
    /// The answer of `/explain`.
    var json: [UInt8] {
        var json = JSONWriter(pretty: true)
        json.object { json in
            json.objectMember("source") { json in
                json.member("workload", source.workload.uid)
                json.member("node", source.workload.node)
                json.member("identity", source.identity.uri)
            }
            json.member("destination", destination.description)
            if let (target, service) = target {
                json.objectMember("target") { json in
                    if let target {
                        json.member("workload", target.workload.uid)
                        json.member("node", target.workload.node)
                        json.member("identity", target.identity.uri)
                    }
                    if let service { json.member("service", service.service.key.description) }
                    if let address = dialled { json.member("address", address.description) }
                }
            }
            json.objectMember("outbound") { json in
                json.member("plan", planName)
                json.member("summary", summary)
                json.arrayMember("steps", of: steps)
            }
            if let waypoint {
                json.objectMember("waypoint") { json in
                    json.member("plan", waypoint.planName)
                    json.member("summary", waypoint.summary)
                    json.arrayMember("steps", of: waypoint.steps)
                }
            }
            if let inbound {
                json.objectMember("inbound") { json in inbound.write(to: &json) }
            }
            json.member("verdict", verdict)
        }
        return json.bytes + [UInt8(ascii: "\n")]
    }

    private var target: (workload: WorkloadEntry?, service: ServiceEntry?)? {
        switch plan {
        case .plain(let plain):
            plain.workload == nil && plain.service == nil ? nil : (plain.workload, plain.service)
        case .sameNode(let joined): (joined.workload, joined.service)
        case .tunnel(let tunnel): (tunnel.workload, tunnel.service)
        case .refuse: nil
        }
    }

    private var dialled: SocketAddress? {
        switch plan {
        case .plain(let plain): plain.address
        case .sameNode(let joined): joined.address
        case .tunnel(let tunnel): tunnel.address
        case .refuse: nil
        }
    }

    private var planName: String {
        switch plan {
        case .plain: "passthrough"
        case .sameNode: "same-node"
        case .tunnel(let tunnel): tunnel.hop == .waypoint ? "waypoint" : "tunnel"
        case .refuse: "reject"
        }
    }

    private var summary: String {
        switch plan {
        case .plain(let plain):
            "plain TCP to \(plain.address): the destination is not in the mesh"
        case .sameNode(let joined):
            "joined within this node to \(joined.address), seen to come from \(joined.source)"
        case .tunnel(let tunnel) where tunnel.hop == .waypoint:
            "tunnel to the waypoint at \(tunnel.address), asking for \(tunnel.authority)"
        case .tunnel(let tunnel): "tunnel to \(tunnel.address), asking for \(tunnel.authority)"
        case .refuse(let reason): reason.description
        }
    }

    private var verdict: String {
        switch (plan, waypoint?.plan, inbound?.plan) {
        case (.refuse, _, _), (_, .refuse, _), (_, _, .refuse): "denied"
        case (.plain, _, _): "passthrough"
        case (.tunnel, _, _), (.sameNode, _, _): "allowed"
        }
    }
}

extension Explanation.Waypoint {
    fileprivate var planName: String {
        switch plan {
        case .plain: "plain"
        case .tunnel, .sameNode: "tunnel"
        case .refuse: "reject"
        }
    }

    fileprivate var summary: String {
        switch plan {
        case .plain(let plain): "plain TCP to \(plain.address): the endpoint is not in the mesh"
        case .tunnel(let tunnel): "tunnel to \(tunnel.address), asking for \(tunnel.authority)"
        case .sameNode(let joined): "to \(joined.address)"
        case .refuse(let reason): reason.description
        }
    }
}

extension Explanation.Inbound {
    fileprivate func write(to json: inout JSONWriter) {
        switch plan {
        case .connect(let address, _, let ground):
            json.member("verdict", "allowed")
            switch ground {
            case .policy(let name):
                json.member("policy", name.description)
                json.member("summary", "policy \(name) allows it to port \(address.port)")
            case .noAllowPolicies:
                json.member("summary", "no allow policy applies, so port \(address.port) is open to everyone")
            }
        case .refuse(let reason):
            json.member("verdict", "denied")
            switch reason {
            case .deniedByPolicy(let name), .missingPolicy(let name): json.member("policy", name.description)
            default: break
            }
            json.member("summary", reason.description)
        }
        json.arrayMember("steps", of: steps)
    }
}
