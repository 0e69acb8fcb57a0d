import Address
import Glibc
import Testing

@testable import Capture

/// The rules as data: no kernel, no privileges.
struct CaptureRulesTests {
    static let uid: UInt32 = 4711

    static func rules(_ change: (inout CaptureConfiguration) -> Void = { _ in }) -> CaptureRules {
        var configuration = CaptureConfiguration(daemonUserID: uid)
        change(&configuration)
        return CaptureRules(configuration, ipv6: true)
    }

    static func chain(_ name: String, of rules: CaptureRules) throws -> Chain {
        try #require(rules.table.chains.first { $0.name == name })
    }

    @Test func `hangs two nat and two mangle chains at Istio's priorities`() {
        let places = Self.rules().table.chains.map { "\($0.kind) \($0.hook) \($0.priority)" }
        #expect(
            places == [
                "filter prerouting -150", "route output -150", "nat prerouting -100", "nat output -100",
            ])
    }

    @Test func `lets connections out only with the mark and the uid`() throws {
        let chain = try Self.chain("nat-output", of: Self.rules())
        let accepting = chain.rules.filter {
            $0.expressions.last == .accept && $0.expressions.contains(.loadMeta(.mark))
        }
        #expect(accepting.count == 1)
        let own = try #require(accepting.first)
        #expect(own.expressions.contains(.compare(.equal, [0x39, 0x05, 0, 0])))
        #expect(own.expressions.contains(.loadMeta(.socketUserID)))
        #expect(own.expressions.contains(.compare(.equal, [0x67, 0x12, 0, 0])))
    }

    @Test func `ends the output chain with a redirect of all other TCP`() throws {
        let last = try #require(try Self.chain("nat-output", of: Self.rules()).rules.last)
        #expect(
            last.expressions == [
                .loadMeta(.layer4Protocol), .compare(.equal, [6]), .loadConstant([0x3a, 0x99]), .redirect,
            ])
    }

    @Test func `asks for no socket where packets come in`() {
        for chain in Self.rules().table.chains where chain.hook == .prerouting {
            #expect(!chain.rules.contains { $0.expressions.contains(.loadMeta(.socketUserID)) })
        }
    }

    @Test func `touches nothing but TCP, save for what it lets pass`() {
        for rule in Self.rules({ $0.probeAddresses = [.loopbackIPv4] }).table.chains.flatMap(\.rules)
        where rule.expressions.last != .accept {
            #expect(rule.expressions.contains(.loadMeta(.layer4Protocol)), "\(rule.comment)")
            #expect(rule.expressions.contains(.compare(.equal, [6])), "\(rule.comment)")
        }
    }

    @Test func `changes no bit of a mark outside its mask`() {
        let masks = Self.rules().table.chains.flatMap(\.rules).flatMap(\.expressions).compactMap { part in
            if case .bitwise(let mask, let xor) = part, xor != [0, 0, 0, 0] { mask } else { nil }
        }
        #expect(masks == Array(repeating: [0x00, 0xf0, 0xff, 0xff], count: 2))
    }

    @Test func `redirects what comes in on both families, and never a tunnel`() throws {
        let chain = try Self.chain("nat-prerouting", of: Self.rules())
        #expect(chain.rules.count == 2)
        for rule in chain.rules {
            #expect(rule.expressions.contains(.compare(.notEqual, [0x3a, 0xa0])))
            #expect(rule.expressions.suffix(2) == [.loadConstant([0x3a, 0x9e]), .redirect])
        }
    }

    @Test func `knows no probe address unless one is configured`() throws {
        let probe = try #require(IPAddress("169.254.7.127"))
        let probe6 = try #require(IPAddress("fd16:9254:7127:1337:ffff:ffff:ffff:ffff"))
        func exemptions(_ rules: CaptureRules) -> Int {
            rules.table.chains.flatMap(\.rules).filter { $0.comment == "health probes" }.count
        }
        #expect(exemptions(Self.rules()) == 0)
        let rules = Self.rules { $0.probeAddresses = [probe, probe6] }
        #expect(exemptions(rules) == 4)
        let first = try #require(try Self.chain("nat-prerouting", of: rules).rules.first)
        #expect(
            first.expressions == [
                .loadMeta(.layer3Protocol), .compare(.equal, [2]),
                .loadPayload(.network, offset: 12, byteCount: 4), .compare(.equal, [169, 254, 7, 127]),
                .loadMeta(.layer4Protocol), .compare(.equal, [6]), .accept,
            ])
    }

    @Test func `leaves incoming connections alone where the workload takes them itself`() throws {
        let rules = Self.rules { $0.capturesInbound = false }
        #expect(try Self.chain("nat-prerouting", of: rules).rules.isEmpty)
        #expect(try Self.chain("nat-output", of: rules) == Self.chain("nat-output", of: Self.rules()))
    }

    @Test func `takes what comes in on rerouted interfaces as the workload's own`() throws {
        let interface = try #require(InterfaceName("tap0"))
        let chain = try Self.chain(
            "nat-prerouting", of: Self.rules { $0.reroutedInterfaces = [interface] })
        let first = try #require(chain.rules.first)
        #expect(first.expressions.first == .loadMeta(.inputInterfaceName))
        #expect(first.expressions.suffix(2) == [.loadConstant([0x3a, 0x99]), .redirect])
    }

    @Test(arguments: ["", "a name", "a/b", "sixteen-letters!", ".", "..", "nul\0"])
    func `refuses what cannot name an interface`(name: String) {
        #expect(InterfaceName(name) == nil)
    }

    @Test func `routes IPv6 only where there is IPv6, and captures it always`() {
        let without = CaptureRules(CaptureConfiguration(daemonUserID: Self.uid), ipv6: false)
        #expect(without.routing.rules.map(\.family) == [.ipv4])
        #expect(without.routing.routes.map(\.family) == [.ipv4])
        #expect(without.table == Self.rules().table)
        #expect(
            Self.rules().routing.rules.map(\.description) == [
                "ipv4 rule 32764: fwmark 0x111/0xfff lookup 100",
                "ipv6 rule 32764: fwmark 0x111/0xfff lookup 100",
            ])
    }
}

/// The rules without connection tracking, as data.
struct UntrackedRulesTests {
    static func rules(_ change: (inout CaptureConfiguration) -> Void = { _ in }) -> CaptureRules {
        CaptureRulesTests.rules {
            $0.preferredMethod = .untracked
            $0.workloadAddresses = ["10.1.1.2", "10.1.1.3", "fd00::2"].compactMap { IPAddress($0) }
            change(&$0)
        }
    }

    @Test func `track nothing`() {
        for chain in Self.rules().table.chains {
            #expect(chain.kind == .filter)
            for expression in chain.rules.flatMap(\.expressions) {
                switch expression {
                case .loadConnectionMark, .storeConnectionMark, .loadConnectionDirection, .redirect, .foreign:
                    Issue.record("\(expression)")
                default: break
                }
            }
        }
    }

    @Test func `follow every transparent listener with a refusal for where there is none`() throws {
        let rules = try CaptureRulesTests.chain("prerouting", of: Self.rules()).rules
        var count = 0
        for (rule, next) in zip(rules, rules.dropFirst()) {
            guard case .transparentProxy = rule.expressions.dropLast().last else { continue }
            #expect(next.expressions.last == .rejectWithReset)
            // The same packets, or their first.
            #expect(next.expressions.starts(with: rule.expressions.dropLast(3)))
            count += 1
        }
        #expect(count == 3)
    }

    @Test func `leave alone what goes to any of the workload's own addresses`() throws {
        let first = try #require(try CaptureRulesTests.chain("prerouting", of: Self.rules()).rules.first)
        for own in [[10, 1, 1, 2], [10, 1, 1, 3]] as [[UInt8]] {
            #expect(first.expressions.contains(.compare(.notEqual, own)))
        }
    }

    @Test func `lead to loopback what the workload sends, from its first address, and the daemon's by main`()
    {
        let routing = Self.rules().routing
        #expect(
            routing.rules.map(\.description)
                == ["ipv4", "ipv6"].flatMap { family in
                    [
                        "\(family) rule 32762: iif lo ipproto tcp fwmark 0x112/0xfff goto 32766",
                        "\(family) rule 32763: iif lo ipproto tcp fwmark 0x539/0xfff uidrange 4711-4711 goto 32766",
                        "\(family) rule 32764: iif lo ipproto tcp lookup 100",
                    ]
                })
        #expect(
            routing.routes.map(\.description) == [
                "ipv4 route: local default dev lo src 10.1.1.2 table 100",
                "ipv6 route: local default dev lo src fd00::2 table 100",
            ])
        #expect(
            Self.rules { $0.workloadAddresses.removeLast() }.routing.rules.allSatisfy { $0.family == .ipv4 })
    }

    @Test func `let health probes be answered where they came from`() {
        let rules = Self.rules { $0.probeAddresses = [IPAddress("169.254.7.127")].compactMap(\.self) }
        #expect(
            rules.routing.rules.map(\.description).contains(
                "ipv4 rule 32763: to 169.254.7.127 iif lo ipproto tcp goto 32766"))
        #expect(rules.table.chains.flatMap(\.rules).filter { $0.comment == "health probes" }.count == 2)
    }

    @Test func `are not for a workload that takes connections itself, nor for virtual machines`() throws {
        let tap = try #require(InterfaceName("tap0"))
        #expect(Self.rules().method == .untracked)
        #expect(Self.rules { $0.capturesInbound = false }.method == .tracked)
        #expect(Self.rules { $0.reroutedInterfaces = [tap] }.method == .tracked)
    }
}

/// What `verify` says about every way in which a namespace may differ.
struct DriftTests {
    let rules = CaptureRulesTests.rules()

    private func found(_ change: (inout FoundState) -> Void) -> [Drift] {
        var state = FoundState(
            table: FoundState.FoundTable(isDormant: false, table: rules.table),
            rules: Dictionary(uniqueKeysWithValues: rules.routing.rules.map { ($0, true) }),
            routes: Dictionary(uniqueKeysWithValues: rules.routing.routes.map { ($0, true) }))
        change(&state)
        return rules.differences(from: state)
    }

    @Test func `is nothing when all is as written`() {
        #expect(found { _ in } == [])
    }

    @Test func `is a missing or a dormant table`() {
        #expect(found { $0.table = nil } == [.tableMissing])
        #expect(found { $0.table?.isDormant = true } == [.tableDormant])
    }

    @Test func `is a chain too few, too many or elsewhere`() {
        #expect(found { $0.table?.table.chains.removeLast() } == [.chainMissing("nat-output")])
        let guest = Chain(name: "guest", kind: .filter, hook: .output, priority: 0, rules: [])
        #expect(found { $0.table?.table.chains.append(guest) } == [.chainUnexpected("guest")])
        let moved = Chain(
            name: "nat-output", kind: .nat, hook: .output, priority: -99, rules: rules.table.chains[3].rules)
        #expect(found { $0.table?.table.chains[3] = moved } == [.chainChanged("nat-output")])
    }

    @Test func `is a rule gone, added or changed, named by its comment`() {
        let gone = found { $0.table?.table.chains[3].rules.removeFirst() }
        #expect(
            gone == [
                .rulesChanged(chain: "nat-output", at: "loopback and the workload's own addresses")
            ])
        let guest = Rule(comment: "guest", expressions: [.accept])
        let added = found { $0.table?.table.chains[3].rules.append(guest) }
        #expect(added == [.rulesChanged(chain: "nat-output", at: "guest")])
        let changed = found { $0.table?.table.chains[0].rules[0] = guest }
        #expect(
            changed == [
                .rulesChanged(
                    chain: "mangle-prerouting", at: "remember connections of the daemon to the workload")
            ])
    }

    @Test func `is routing that is missing, or ours and left over`() throws {
        let rule = rules.routing.rules[0]
        let route = rules.routing.routes[1]
        let missing = found {
            $0.rules[rule] = nil
            $0.routes[route] = nil
        }
        #expect(missing == [.routingRuleMissing(rule), .routeMissing(route)])
        let old = RoutingRule(family: .ipv4, priority: 1, mark: try #require(rule.mark), table: 99)
        #expect(found { $0.rules[old] = true } == [.routingRuleUnexpected(old)])
        #expect(found { $0.rules[old] = false } == [], "somebody else's rule is theirs")
    }
}

/// Which errors say that capture without connection tracking is not to be had, and which are errors.
struct UntrackedObstacleTests {
    private let rules = CaptureRulesTests.rules {
        $0.preferredMethod = .untracked
        $0.workloadAddresses = ["10.98.1.2", "fd98:1::2"].compactMap { IPAddress($0) }
    }

    private static let proxying = "rule \"connections of the workload\" of prerouting"
    private static let resetting = "rule \"nobody takes connections to the workload\" of prerouting"
    private static let ordinary = "rule \"what stays in the namespace\" of output"

    private func obstacle(
        _ step: CaptureError.Step, _ object: String, _ number: Int32
    ) -> UntrackedObstacle? {
        rules.obstacle(.refused(step, object: object, number: number, detail: nil))
    }

    @Test func `is an expression that the kernel does not know`() {
        for number in [ENOENT, EOPNOTSUPP] {
            #expect(obstacle(.commit, Self.proxying, number) == .unknownExpression)
            #expect(obstacle(.commit, Self.resetting, number) == .unknownExpression)
        }
        let title = rules.table.chains.flatMap { chain in chain.rules.map { $0.title(in: chain) } }
        #expect([Self.proxying, Self.resetting, Self.ordinary].allSatisfy(title.contains))
    }

    @Test(arguments: [EINVAL, EPERM, ENOMEM, EBUSY, EEXIST, EPROTONOSUPPORT, EAFNOSUPPORT])
    func `is not that the kernel refuses such a rule for another reason`(number: Int32) {
        #expect(obstacle(.commit, Self.proxying, number) == nil)
    }

    @Test(arguments: [ENOENT, EOPNOTSUPP])
    func `is not that anything else is unknown`(number: Int32) {
        for object in [Self.ordinary, "table warren", "chain prerouting", "the batch", "netlink"] {
            #expect(obstacle(.commit, object, number) == nil, "\(object)")
        }
        #expect(obstacle(.addRouting, Self.proxying, number) == nil)
        #expect(obstacle(.readTable, "table warren", number) == nil)
        #expect(rules.obstacle(.loopbackDown) == nil)
    }

    @Test func `is a setting that cannot be written, and not one that is refused`() {
        let name = "net.ipv4.conf.all.src_valid_mark"
        for number in [EROFS, EACCES, EPERM, ENOENT] {
            #expect(obstacle(.changeSetting, name, number) == .settingNotWritable(name))
        }
        for number in [EINVAL, EIO, EMFILE] { #expect(obstacle(.changeSetting, name, number) == nil) }
    }

    @Test func `is nothing that capture with tracking meets`() {
        let error = CaptureError.refused(.commit, object: Self.proxying, number: ENOENT, detail: nil)
        #expect(Capture(CaptureConfiguration(daemonUserID: 1)).obstacle(error) == nil)
        #expect(CaptureRulesTests.rules().obstacle(error) == nil)
    }
}
