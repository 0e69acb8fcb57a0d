import Glibc
import Linux

/// Writes, checks and removes the capture rules of network namespaces, over netlink.
///
/// Applied in the order routing, then everything of nftables in one batch, and removed in the reverse order: whatever
/// happens in between, a namespace is either captured or as it was. Applying again replaces the rules at once, without a
/// moment between the old and the new. The one rule that leads all that the workload sends to loopback (untracked capture)
/// comes last and goes first, for without the table an application could meet its own listeners there: until it has come the
/// table refuses connections, as it does for a moment where one method takes the place of the other.
///
/// Every call moves the thread into the namespace and back and waits for the kernel, some milliseconds: for a thread of
/// its own, not for a loop.
public struct Capture: Sendable {
    public let configuration: CaptureConfiguration

    public init(_ configuration: CaptureConfiguration) {
        self.configuration = configuration
    }

    /// Captures the namespace, or repairs it: whatever of ours is missing, changed or left over is put right.
    ///
    /// - Throws: with a namespace that was not captured as it was before, save for `.notAsWritten`. In one that was, nothing
    ///   gets out that did not before.
    public func apply(in namespace: borrowing NetworkNamespace) throws(CaptureError) {
        try inside(namespace) { () throws(CaptureError) in
            let rules = rulesHere()
            var routing = try NetlinkConversation(.route)
            var tables = try NetlinkConversation(.netfilter)
            let previous = try tables.table(named: rules.table.name, tag: rules.table.tag)?.table
            var added: (rules: [RoutingRule], routes: [LocalRoute]) = ([], [])
            do throws(CaptureError) {
                for setting in rules.settings { try setting.switchOn() }
                try routing.removeStaleRules(besides: rules.routing) { $0.leadsEverything }
                added = try routing.addMissing(rules.routing) { !$0.leadsEverything }
                try tables.replace(rules.table)
            } catch {
                try? routing.remove(rules: added.rules, routes: added.routes)
                if previous == nil { try? Self.restoreSettings(besides: []) }
                throw error
            }
            do throws(CaptureError) {
                _ = try routing.addMissing(rules.routing) { $0.leadsEverything }
            } catch {
                if previous == nil {
                    try? tables.remove(tableNamed: rules.table.name, tag: rules.table.tag)
                    try? routing.remove(rules: added.rules, routes: added.routes)
                    try? Self.restoreSettings(besides: [])
                }
                throw error
            }
            try routing.removeStale(besides: rules.routing)
            try Self.restoreSettings(besides: rules.settings)
            let drifts = try Self.differences(from: rules)
            guard drifts.isEmpty else { throw .notAsWritten(drifts) }
        }
    }

    /// What keeps this capture from being without connection tracking, by the error that `apply` threw; nil where the error
    /// says nothing of the kind, or nothing is untracked.
    public func obstacle(_ error: CaptureError) -> UntrackedObstacle? {
        configuration.method == .untracked ? CaptureRules(configuration, ipv6: true).obstacle(error) : nil
    }

    /// What is missing, changed or left over; empty when the namespace is captured as it should be.
    public func verify(_ namespace: borrowing NetworkNamespace) throws(CaptureError) -> [Drift] {
        try inside(namespace) { () throws(CaptureError) in
            try Self.differences(from: rulesHere())
        }
    }

    /// Removes everything of ours, whatever configuration it was made by. A namespace without is left as it is.
    public func remove(from namespace: borrowing NetworkNamespace) throws(CaptureError) {
        try inside(namespace) { () throws(CaptureError) in
            var routing = try NetlinkConversation(.route)
            try routing.removeStaleRules(besides: nil) { $0.leadsEverything }
            var tables = try NetlinkConversation(.netfilter)
            do throws(CaptureError) {
                try tables.remove(tableNamed: CaptureRules.tableName, tag: CaptureRules.tag)
            } catch .foreignTable {
                // Then there is none of ours.
            }
            try routing.removeStale(besides: nil)
            try Self.restoreSettings(besides: [])
        }
    }

    private static func restoreSettings(besides kept: [KernelSetting]) throws(CaptureError) {
        for setting in KernelSetting.all where !kept.contains(setting) { try setting.restore() }
    }

    private static func differences(from rules: CaptureRules) throws(CaptureError) -> [Drift] {
        var found = FoundState()
        var tables = try NetlinkConversation(.netfilter)
        found.table = try tables.table(named: rules.table.name, tag: rules.table.tag)
        var routing = try NetlinkConversation(.route)
        for family in Family.allCases {
            let wanted = rules.routing.routes.first { $0.family == family }
            found.rules.merge(try routing.routingRules(family)) { $1 }
            found.routes.merge(try routing.localRoutes(family, wanted: wanted)) { $1 }
        }
        found.settings = Set(rules.settings.filter(\.isOn))
        return rules.differences(from: found)
    }

    private func inside<T>(
        _ namespace: borrowing NetworkNamespace, _ body: () throws(CaptureError) -> T
    ) throws(CaptureError) -> T {
        try namespace.perform(
            orThrow: { .refused(.enter, object: $0.subject, number: $0.number, detail: nil) }, body)
    }

    /// For the current namespace.
    private func rulesHere() -> CaptureRules {
        var configuration = configuration
        configuration.furtherAddresses = ((try? Interfaces.addresses()) ?? []).map(\.address.canonical)
        return CaptureRules(configuration, ipv6: hasIPv6())
    }

    /// Whether loopback of the current namespace has IPv6: without, the kernel takes no IPv6 route to it.
    private func hasIPv6() -> Bool {
        // The thread's own view: /proc/sys/net shows the namespace of whoever looks.
        let setting = try? readFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", limit: 16)
        return setting?.first == UInt8(ascii: "0")
    }
}

extension NetlinkConversation {
    /// How often a batch is tried again when somebody else changes nftables between our look and our write.
    private static let attemptLimit = 8

    /// Puts the table in place of one of ours, or of none, in one batch.
    mutating func replace(_ table: Table) throws(CaptureError) {
        try transact(.commit, tableNamed: table.name, tag: table.tag) { transaction, isThere in
            if isThere { transaction.delete(tableNamed: table.name) }
            transaction.create(table)
        }
    }

    fileprivate mutating func remove(tableNamed name: String, tag: String) throws(CaptureError) {
        try transact(.removeTable, tableNamed: name, tag: tag) { transaction, isThere in
            if isThere { transaction.delete(tableNamed: name) }
        }
    }

    private mutating func transact(
        _ step: CaptureError.Step, tableNamed name: String, tag: String,
        _ fill: (inout TableTransaction, _ isThere: Bool) -> Void
    ) throws(CaptureError) {
        for _ in 0..<Self.attemptLimit {
            let generation = try generation()
            let isThere = try self.table(named: name, tag: tag) != nil
            var transaction = TableTransaction(generation: generation, firstSequence: nextSequence(1024))
            fill(&transaction, isThere)
            guard !transaction.isEmpty else { return }
            transaction.end()
            do throws(CaptureError) {
                return try commit(step, transaction.batch)
            } catch .refused(_, _, ERESTART, _) {
                continue
            }
        }
        throw .malformedAnswer(step, "somebody changes the rules of nftables all the time")
    }

    /// Adds what is missing: the routes, and those of the rules.
    ///
    /// - Returns: what was added, to be taken back should the next step fail.
    fileprivate mutating func addMissing(
        _ routing: Routing, _ isMeant: (RoutingRule) -> Bool
    ) throws(CaptureError) -> (rules: [RoutingRule], routes: [LocalRoute]) {
        var added: (rules: [RoutingRule], routes: [LocalRoute]) = ([], [])
        do throws(CaptureError) {
            for route in routing.routes {
                let present = try localRoutes(route.family, wanted: route)
                guard present[route] == nil else { continue }
                let replaces = present.contains { $0.value && $0.key.table == route.table }
                try commitOne(.addRouting) { $0.add(route, replaces: replaces) }
                if !replaces { added.routes.append(route) }
            }
            for rule in routing.rules where isMeant(rule) {
                guard try routingRules(rule.family)[rule] == nil else { continue }
                try commitOne(.addRouting) { $0.add(rule) }
                added.rules.append(rule)
            }
        } catch {
            try? remove(rules: added.rules, routes: added.routes)
            if case .refused(_, _, ENETDOWN, _) = error { throw .loopbackDown }
            throw error
        }
        return added
    }

    /// Removes those of the rules that carry our origin and are none of `kept`.
    fileprivate mutating func removeStaleRules(
        besides kept: Routing?, where isMeant: (RoutingRule) -> Bool = { _ in true }
    ) throws(CaptureError) {
        for family in Family.allCases {
            let rules = try routingRules(family).filter {
                $0.value && kept?.rules.contains($0.key) != true && isMeant($0.key)
            }
            try remove(rules: rules.map(\.key), routes: [])
        }
    }

    /// Removes rules and routes that carry our origin and are none of `kept`.
    fileprivate mutating func removeStale(besides kept: Routing?) throws(CaptureError) {
        try removeStaleRules(besides: kept)
        for family in Family.allCases {
            let routes = try localRoutes(family, wanted: nil)
                .filter { $0.value && kept?.routes.contains($0.key) != true }
            try remove(rules: [], routes: routes.map(\.key))
        }
    }

    fileprivate mutating func remove(
        rules: [RoutingRule], routes: [LocalRoute]
    ) throws(CaptureError) {
        for rule in rules { try commitOne(.removeRouting) { $0.remove(rule) } }
        for route in routes { try commitOne(.removeRouting) { $0.remove(route) } }
    }

    private mutating func commitOne(
        _ step: CaptureError.Step, _ fill: (inout RoutingChanges) -> Void
    ) throws(CaptureError) {
        var changes = RoutingChanges(firstSequence: nextSequence(1))
        fill(&changes)
        do throws(CaptureError) {
            try commit(step, changes.batch)
        } catch .refused(.removeRouting, _, let number, _) where number == ENOENT || number == ESRCH {
            // Gone already: what was wanted.
        }
    }
}

extension TableTransaction {
    /// Nothing but the opening of the batch.
    fileprivate var isEmpty: Bool { batch.objects.count == 1 }
}

/// The kernel's "ruleset changed since you looked". Not in Glibc's Swift module.
private let ERESTART: Int32 = 85
