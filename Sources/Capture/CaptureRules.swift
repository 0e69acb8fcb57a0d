import Address

/// Everything that Warren writes into one namespace, as data: in one of two ways, by `CaptureConfiguration.method`.
///
/// Untracked (CaptureRules+Untracked.swift), where the kernel keeps no record of connections:
///
/// ```
/// app ──SYN──▶ routing rule: TCP, of this machine ─▶ table 100: local ─▶ lo ─▶ prerouting: tproxy 15001 ──▶ daemon
/// daemon ──mark 0x539, its own uid──▶ routing rule: goes by main, leaves
/// peer ──SYN──▶ prerouting: mark 0x112, tproxy 15006 ──▶ daemon
/// daemon ──source: the peer's address──▶ lo ──▶ app
/// app ──answer to the peer's address──▶ the same routing rule ──▶ lo ──▶ the daemon's socket
/// ```
///
/// Tracked (CaptureRules+Tracked.swift), for workloads that take connections themselves, and kernels without tproxy:
///
/// ```
/// app ──SYN──▶ nat output ──redirect 15001──▶ daemon ──mark 0x539, its own uid──▶ nat output: accepted, leaves
/// peer ──SYN──▶ nat prerouting ──redirect 15006──▶ daemon
/// daemon ──source: the peer's address, mark 0x539──▶ lo ──mangle prerouting: connection 0x111──▶ app
/// app ──answer to the peer's address──▶ mangle output: mark 0x111 ──routing rule──▶ table 100: local ──▶ daemon
/// ```
///
/// One `inet` table serves IPv4 and IPv6. The rules always cover both: where the daemon listens on IPv4 alone, IPv6
/// connections are refused rather than let out in the clear.
///
/// Who is believed: the mark alone says "the daemon's" nowhere that an application would gain by it. Leaving uncaptured
/// takes the mark *and* the daemon's uid. Where packets come in there is no socket to ask, so prerouting believes
/// the mark; it can only be there on packets that this namespace sent to itself (the kernel clears marks between
/// namespaces), and what it buys a forger is at most that its own connection stays inside the namespace.
///
/// A connection that was open before the rules came is led to the daemon in its middle and reset: it fails closed, and is
/// opened again through the mesh. Not so one whose socket is bound to an interface, which untracked rules let go on (SECURITY.md).
public struct CaptureRules: Hashable, Sendable {
    public let method: CaptureMethod
    public let table: Table
    public let routing: Routing
    /// What has to be on beside them.
    public let settings: [KernelSetting]

    /// - Parameter ipv6: whether the namespace has IPv6; without it the kernel refuses IPv6 routes.
    public init(_ configuration: CaptureConfiguration, ipv6: Bool) {
        let families: [Family] = ipv6 ? [.ipv4, .ipv6] : [.ipv4]
        let chains: [Chain]
        switch configuration.method {
        case .tracked:
            chains = Self.trackedChains(configuration)
            routing = Routing(tracked: configuration, families: families)
            settings = []
        case .untracked:
            chains = Self.untrackedChains(configuration)
            routing = Routing(untracked: configuration, families: families)
            settings = [.sourceCheckSeesMarks] + families.map { .answersKeepMarks($0) }
        }
        method = configuration.method
        table = Table(name: Self.tableName, tag: Self.tag, chains: chains)
    }

    init(method: CaptureMethod = .tracked, table: Table, routing: Routing, settings: [KernelSetting] = []) {
        self.method = method
        self.table = table
        self.routing = routing
        self.settings = settings
    }

    static let tableName = "warren"
    static let tag = "Warren ambient capture; managed, do not edit"

    static func probes(
        _ configuration: CaptureConfiguration, _ address: (Family, [UInt8]) -> Clause
    ) -> [Rule] {
        configuration.probeAddresses.map { probe in
            let family: Family = probe.isIPv4 ? .ipv4 : .ipv6
            return Rule("health probes", .family(family), address(family, probe.bytes), .isTCP, .accept)
        }
    }
}

/// What leads the workload's packets to the daemon rather than out.
public struct Routing: Hashable, Sendable {
    public let rules: [RoutingRule]
    public let routes: [LocalRoute]

    init(rules: [RoutingRule], routes: [LocalRoute]) {
        self.rules = rules
        self.routes = routes
    }
}

/// `ip rule add pref PRIORITY [to ADDRESS] [iif lo] [ipproto tcp] [fwmark MARK] [uidrange ID-ID] lookup TABLE|goto PRIORITY`
public struct RoutingRule: Hashable, Sendable, CustomStringConvertible {
    public enum Action: Hashable, Sendable {
        case lookup(UInt32)
        /// On to the first rule of this priority.
        case goTo(UInt32)
    }

    public let family: Family
    public let priority: UInt32
    public var mark: Mark?
    /// Only what sockets of this machine send. (What arrives over another interface is looked up as coming from there.)
    public var isOfThisMachine = false
    public var isTCP = false
    public var userID: UInt32?
    /// In network order.
    public var destination: [UInt8]?
    public let action: Action

    init(family: Family, priority: UInt32, _ action: Action) {
        self.family = family
        self.priority = priority
        self.action = action
    }

    public init(family: Family, priority: UInt32, mark: Mark, table: UInt32) {
        self.init(family: family, priority: priority, .lookup(table))
        self.mark = mark
    }

    public var description: String {
        var words: [String] = []
        if let destination { words.append("to \(IPAddress(bytes: destination).map(\.description) ?? "?")") }
        if isOfThisMachine { words.append("iif lo") }
        if isTCP { words.append("ipproto tcp") }
        if let mark { words.append("fwmark \(mark)") }
        if let userID { words.append("uidrange \(userID)-\(userID)") }
        switch action {
        case .lookup(let table): words.append("lookup \(table)")
        case .goTo(let priority): words.append("goto \(priority)")
        }
        return "\(family) rule \(priority): \(words.joined(separator: " "))"
    }
}

/// `ip route add local default dev lo [src SOURCE] table TABLE`
public struct LocalRoute: Hashable, Sendable, CustomStringConvertible {
    public let family: Family
    public let table: UInt32
    /// What connections that take this route come from unless they say otherwise, in network order.
    public let source: [UInt8]?

    public init(family: Family, table: UInt32, source: [UInt8]? = nil) {
        self.family = family
        self.table = table
        self.source = source
    }

    public var description: String {
        let source = source.map { " src \(IPAddress(bytes: $0).map(\.description) ?? "?")" } ?? ""
        return "\(family) route: local default dev lo\(source) table \(table)"
    }
}
