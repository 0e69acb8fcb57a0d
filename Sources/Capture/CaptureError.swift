import Glibc

/// Why a namespace could not be captured, checked or released. Each case says what was attempted on what.
public enum CaptureError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was being done. Steps run in this order, and back when rules are removed.
    public enum Step: String, Hashable, Sendable {
        case enter = "entering the namespace"
        case open = "opening a netlink socket"
        case readRouting = "reading the routing rules"
        case changeSetting = "changing a setting of the kernel"
        case addRouting = "adding routing"
        case readTable = "reading the nftables rules"
        case commit = "replacing the nftables rules"
        case removeTable = "removing the nftables rules"
        case removeRouting = "removing routing"
        case monitor = "watching for changes"
    }

    /// The kernel, or the way to it, said no. `detail` is the kernel's own explanation where it gives one.
    case refused(Step, object: String, number: Int32, detail: String?)
    /// An answer that is not netlink as we know it, or none within the deadline.
    case malformedAnswer(Step, String)
    /// A table of our name without our tag: somebody else's, left as it is.
    case foreignTable(name: String)
    /// The table number that we route through already leads somewhere else.
    case foreignRoute(LocalRoute)
    /// Loopback is down, so nothing can be routed over it.
    case loopbackDown
    /// Everything was written, and what is there now differs all the same: somebody else is writing too.
    case notAsWritten([Drift])

    public var description: String {
        switch self {
        case .refused(let step, let object, let number, let detail):
            let reason = unsafe String(cString: strerror(number))
            let explanation = detail.map { " (\($0))" } ?? ""
            return "\(step.rawValue): \(object): \(reason)\(explanation)\(hint(number))"
        case .malformedAnswer(let step, let what): return "\(step.rawValue): \(what)"
        case .foreignTable(let name):
            return "an nftables table inet \(name) is there that Warren did not make; rename or delete it"
        case .foreignRoute(let route):
            return "routing table \(route.table) already has another \(route.family) default route; "
                + "free that table, Warren needs it"
        case .loopbackDown:
            return "the loopback interface is down in the namespace; bring it up (ip link set lo up)"
        case .notAsWritten(let drifts):
            return "something changes the rules while they are written: "
                + drifts.map(\.description).joined(separator: "; ")
        }
    }

    private func hint(_ number: Int32) -> String {
        switch number {
        case EPERM: "; CAP_NET_ADMIN over the namespace is needed"
        case EOPNOTSUPP, EPROTONOSUPPORT:
            "; the kernel lacks a module (nf_tables, nft_nat, nft_redir, nft_ct; nft_tproxy, nft_reject_inet)"
        default: ""
        }
    }
}

/// Why capture without connection tracking is not to be had where the daemon runs, while the tracked one may be.
public enum UntrackedObstacle: Hashable, Sendable, CustomStringConvertible {
    /// The kernel does not know the expressions that hand connections to a listener or refuse them (nft_tproxy,
    /// nft_reject_inet), or not where packets come in: it refuses a reset there before Linux 5.9.
    case unknownExpression
    /// A setting that is needed is hidden or read-only, as /proc/sys is in many containers.
    case settingNotWritable(String)

    public var description: String {
        switch self {
        case .unknownExpression: "the kernel lacks a part of nftables (nft_tproxy, nft_reject_inet)"
        case .settingNotWritable(let name): "\(name) cannot be written (is /proc/sys mounted read-only?)"
        }
    }
}

/// One difference between the rules as they should be and as they are.
public enum Drift: Hashable, Sendable, CustomStringConvertible {
    case tableMissing
    /// The table is there and switched off (`flags dormant`).
    case tableDormant
    case chainMissing(String)
    /// Another type, hook or priority than ours.
    case chainChanged(String)
    case chainUnexpected(String)
    /// The first rule that differs, by its comment.
    case rulesChanged(chain: String, at: String)
    case routingRuleMissing(RoutingRule)
    /// Marked as ours, and not of this configuration.
    case routingRuleUnexpected(RoutingRule)
    case routeMissing(LocalRoute)
    case routeUnexpected(LocalRoute)
    case settingOff(KernelSetting)

    public var description: String {
        switch self {
        case .tableMissing: "the table is missing"
        case .tableDormant: "the table is dormant"
        case .chainMissing(let name): "chain \(name) is missing"
        case .chainChanged(let name): "chain \(name) hangs at another hook"
        case .chainUnexpected(let name): "chain \(name) is not ours"
        case .rulesChanged(let chain, let rule): "the rules of \(chain) differ at \"\(rule)\""
        case .routingRuleMissing(let rule): "missing: \(rule)"
        case .routingRuleUnexpected(let rule): "left over: \(rule)"
        case .routeMissing(let route): "missing: \(route)"
        case .routeUnexpected(let route): "left over: \(route)"
        case .settingOff(let setting): "\(setting) is off"
        }
    }
}

/// What a dump of one namespace found.
struct FoundState: Equatable {
    struct FoundTable: Equatable {
        var isDormant: Bool
        var table: Table
    }

    /// The table of our name, with our tag.
    var table: FoundTable?
    /// Everything in the routing tables that equals ours in kind, and whether it carries our mark of origin.
    var rules: [RoutingRule: Bool] = [:]
    var routes: [LocalRoute: Bool] = [:]
    /// The settings that are on, whoever switched them on.
    var settings: Set<KernelSetting> = []
}

extension CaptureRules {
    /// What stands in the way for good, by the error that writing these rules has met; nil for every other error, which
    /// another method would not make right.
    func obstacle(_ error: CaptureError) -> UntrackedObstacle? {
        switch error {
        case .refused(.changeSetting, let name, EROFS, _), .refused(.changeSetting, let name, EACCES, _),
            .refused(.changeSetting, let name, EPERM, _), .refused(.changeSetting, let name, ENOENT, _):
            return .settingNotWritable(name)
        case .refused(.commit, let object, ENOENT, _), .refused(.commit, let object, EOPNOTSUPP, _):
            let isOfUntracked = table.chains.contains { chain in
                chain.rules.contains { $0.title(in: chain) == object && $0.isOnlyUntracked }
            }
            return isOfUntracked ? .unknownExpression : nil
        default: return nil
        }
    }

    /// What must be repaired before `found` is what these rules say. Empty when all is well.
    func differences(from found: FoundState) -> [Drift] {
        tableDifferences(from: found.table) + routingDifferences(from: found)
            + settings.filter { !found.settings.contains($0) }.map { .settingOff($0) }
    }

    private func tableDifferences(from found: FoundState.FoundTable?) -> [Drift] {
        guard let found else { return [.tableMissing] }
        var drifts: [Drift] = found.isDormant ? [.tableDormant] : []
        for chain in table.chains {
            guard let other = found.table.chains.first(where: { $0.name == chain.name }) else {
                drifts.append(.chainMissing(chain.name))
                continue
            }
            let isInPlace =
                (chain.kind, chain.hook, chain.priority) == (other.kind, other.hook, other.priority)
            if !isInPlace { drifts.append(.chainChanged(chain.name)) }
            if let rule = firstDifference(chain.rules, other.rules) {
                drifts.append(.rulesChanged(chain: chain.name, at: rule.comment))
            }
        }
        let names = Set(table.chains.map(\.name))
        drifts += found.table.chains.filter { !names.contains($0.name) }.map { .chainUnexpected($0.name) }
        return drifts
    }

    private func firstDifference(_ expected: [Rule], _ found: [Rule]) -> Rule? {
        for (one, other) in zip(expected, found) where one != other { return one }
        if expected.count > found.count { return expected[found.count] }
        return found.count > expected.count ? found[expected.count] : nil
    }

    private func routingDifferences(from found: FoundState) -> [Drift] {
        var drifts: [Drift] = []
        drifts += routing.rules.filter { found.rules[$0] == nil }.map { .routingRuleMissing($0) }
        drifts += routing.routes.filter { found.routes[$0] == nil }.map { .routeMissing($0) }
        // Without the mark of origin it is somebody else's, and stays.
        drifts += found.rules.filter { $0.value && !routing.rules.contains($0.key) }
            .map { .routingRuleUnexpected($0.key) }.sorted { $0.description < $1.description }
        drifts += found.routes.filter { $0.value && !routing.routes.contains($0.key) }
            .map { .routeUnexpected($0.key) }.sorted { $0.description < $1.description }
        return drifts
    }
}
