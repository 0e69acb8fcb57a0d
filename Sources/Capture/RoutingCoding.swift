import CNFTables
import Glibc

// Between `Routing` and rtnetlink(7) messages, by libmnl.

/// The origin that rules and routes of ours carry (`ip rule` shows it as `proto 87`). The kernel leaves numbers from 5
/// on to user space; this one nobody has asked for.
let routingOrigin: UInt8 = 87

/// Additions to the routing tables, or removals from them. Each is its own operation for the kernel, unlike a batch.
struct RoutingChanges {
    private(set) var batch: NetlinkBatch

    init(firstSequence: UInt32) {
        batch = NetlinkBatch(firstSequence: firstSequence)
    }

    mutating func add(_ rule: RoutingRule) {
        append(rule, RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL)
    }

    mutating func remove(_ rule: RoutingRule) {
        append(rule, RTM_DELRULE, flags: 0)
    }

    /// - Parameter replaces: one of ours is there that is not quite this.
    mutating func add(_ route: LocalRoute, replaces: Bool) {
        append(route, RTM_NEWROUTE, flags: NLM_F_CREATE | (replaces ? NLM_F_REPLACE : NLM_F_EXCL))
    }

    mutating func remove(_ route: LocalRoute) {
        append(route, RTM_DELROUTE, flags: 0)
    }

    private mutating func append(_ rule: RoutingRule, _ type: Int, flags: Int32) {
        unsafe batch.append("\(rule)") { buffer, sequence in
            guard let message = unsafe mnl_nlmsg_put_header(buffer) else { return nil }
            unsafe message.begin(type, flags: flags, sequence)
            guard
                let header = unsafe mnl_nlmsg_put_extra_header(message, MemoryLayout<fib_rule_hdr>.size)?
                    .assumingMemoryBound(to: fib_rule_hdr.self)
            else { return nil }
            unsafe header.pointee.family = rule.family.number
            unsafe mnl_attr_put_u32(message, UInt16(FRA_PRIORITY), rule.priority)
            switch rule.action {
            case .lookup(let table):
                unsafe header.pointee.action = UInt8(FR_ACT_TO_TBL)
                unsafe mnl_attr_put_u32(message, UInt16(FRA_TABLE), table)
            case .goTo(let priority):
                unsafe header.pointee.action = UInt8(FR_ACT_GOTO)
                unsafe mnl_attr_put_u32(message, UInt16(FRA_GOTO), priority)
            }
            if let mark = rule.mark {
                unsafe mnl_attr_put_u32(message, UInt16(FRA_FWMARK), mark.value)
                unsafe mnl_attr_put_u32(message, UInt16(FRA_FWMASK), mark.mask)
            }
            if rule.isOfThisMachine { unsafe mnl_attr_put_strz(message, UInt16(FRA_IIFNAME), loopbackName) }
            if rule.isTCP { unsafe mnl_attr_put_u8(message, UInt16(FRA_IP_PROTO), tcpNumber) }
            if let userID = rule.userID {
                unsafe message.put(FRA_UID_RANGE, hostOrder(userID) + hostOrder(userID))
            }
            if let destination = rule.destination {
                unsafe header.pointee.dst_len = UInt8(destination.count * 8)
                unsafe message.put(FRA_DST, destination)
            }
            unsafe mnl_attr_put_u8(message, UInt16(FRA_PROTOCOL), routingOrigin)
            return unsafe message
        }
    }

    private mutating func append(_ route: LocalRoute, _ type: Int, flags: Int32) {
        unsafe batch.append("\(route)") { buffer, sequence in
            guard let message = unsafe mnl_nlmsg_put_header(buffer) else { return nil }
            unsafe message.begin(type, flags: flags, sequence)
            guard
                let header = unsafe mnl_nlmsg_put_extra_header(message, MemoryLayout<rtmsg>.size)?
                    .assumingMemoryBound(to: rtmsg.self)
            else { return nil }
            unsafe header.pointee.rtm_family = route.family.number
            unsafe header.pointee.rtm_type = UInt8(RTN_LOCAL)
            unsafe header.pointee.rtm_scope = UInt8(RT_SCOPE_HOST.rawValue)
            unsafe header.pointee.rtm_protocol = routingOrigin
            unsafe mnl_attr_put_u32(message, UInt16(RTA_TABLE.rawValue), route.table)
            unsafe mnl_attr_put_u32(message, UInt16(RTA_OIF.rawValue), loopbackInterfaceIndex)
            if let source = route.source { unsafe message.put(Int(RTA_PREFSRC.rawValue), source) }
            return unsafe message
        }
    }
}

extension NetlinkConversation {
    /// Every routing rule that is like ours in kind, and whether it carries our origin.
    mutating func routingRules(_ family: Family) throws(CaptureError) -> [RoutingRule: Bool] {
        var found: [RoutingRule: Bool] = [:]
        try unsafe listing(
            RTM_GETRULE, "\(family) rules", family, fib_rule_hdr.self, restart: { found = [:] }
        ) {
            message in
            guard let header = unsafe message.header(fib_rule_hdr.self) else { return }
            let attributes = unsafe Attributes(message, after: MemoryLayout<fib_rule_hdr>.size)
            guard header.family == family.number, let rule = RoutingRule(family, header, attributes)
            else { return }
            found[rule] = (found[rule] ?? false) || attributes[FRA_PROTOCOL] == UInt32(routingOrigin)
        }
        return found
    }

    /// Every route that delivers everything locally over loopback, and whether it carries our origin.
    ///
    /// - Throws: `.foreignRoute` when the table of `wanted` holds a default route that does something else.
    mutating func localRoutes(
        _ family: Family, wanted: LocalRoute?
    ) throws(CaptureError) -> [LocalRoute: Bool] {
        var found: [LocalRoute: Bool] = [:]
        var isTaken = false
        try unsafe listing(
            RTM_GETROUTE, "\(family) routes", family, rtmsg.self,
            restart: {
                found = [:]
                isTaken = false
            }
        ) { message in
            guard let header = unsafe message.header(rtmsg.self), header.rtm_family == family.number,
                header.rtm_dst_len == 0
            else { return }
            let attributes = unsafe Attributes(message, after: MemoryLayout<rtmsg>.size)
            let route = LocalRoute(
                family: family, table: attributes[Int(RTA_TABLE.rawValue)] ?? UInt32(header.rtm_table),
                source: attributes.values[Int(RTA_PREFSRC.rawValue)])
            let isLocal =
                header.rtm_type == UInt8(RTN_LOCAL) && header.rtm_src_len == 0 && header.rtm_tos == 0
                && attributes[Int(RTA_OIF.rawValue)] == loopbackInterfaceIndex
            if isLocal {
                found[route] = header.rtm_protocol == routingOrigin
            } else if route.table == wanted?.table {
                isTaken = true
            }
        }
        if isTaken, let wanted, found[wanted] == nil { throw .foreignRoute(wanted) }
        return found
    }

    private mutating func listing<Header>(
        _ type: Int, _ object: String, _ family: Family, _ header: Header.Type, restart: () -> Void,
        _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(CaptureError) {
        try unsafe dump(
            .readRouting, object,
            { buffer, sequence in
                guard let message = unsafe mnl_nlmsg_put_header(buffer) else { return nil }
                unsafe message.begin(type, flags: NLM_F_DUMP, sequence)
                unsafe message.pointee.nlmsg_flags &= ~UInt16(NLM_F_ACK)
                // The family is the first byte of every rtnetlink header.
                let start = unsafe mnl_nlmsg_put_extra_header(message, MemoryLayout<Header>.size)
                unsafe start?.storeBytes(of: family.number, as: UInt8.self)
                return unsafe message
            }, restart: restart, body)
    }
}

/// What a rule like ours may say. Any other attribute narrows what it matches, and makes it another rule.
private let ruleAttributes: Set<Int> = Set(
    [
        FRA_PRIORITY, FRA_FWMARK, FRA_FWMASK, FRA_TABLE, FRA_PROTOCOL, FRA_SUPPRESS_PREFIXLEN, FRA_PAD,
        FRA_GOTO,
        FRA_IIFNAME, FRA_IP_PROTO, FRA_UID_RANGE, FRA_DST,
    ].map { Int($0) })

private let loopbackName = "lo"
/// `IPPROTO_TCP`
private let tcpNumber: UInt8 = 6

extension RoutingRule {
    /// Nil for a rule of another kind than ours: one that asks for anything else, or does anything else.
    fileprivate init?(_ family: Family, _ header: fib_rule_hdr, _ attributes: Attributes) {
        let isPlain =
            header.src_len == 0 && header.tos == 0 && header.flags & UInt32(FIB_RULE_INVERT) == 0
            && attributes.values.keys.allSatisfy { ruleAttributes.contains($0) }
            && attributes[FRA_SUPPRESS_PREFIXLEN] ?? .max == .max
        guard isPlain else { return nil }
        let priority = attributes[FRA_PRIORITY] ?? 0
        switch Int(header.action) {
        case Int(FR_ACT_TO_TBL):
            self.init(
                family: family, priority: priority, .lookup(attributes[FRA_TABLE] ?? UInt32(header.table)))
        case Int(FR_ACT_GOTO):
            guard let target = attributes[FRA_GOTO] else { return nil }
            self.init(family: family, priority: priority, .goTo(target))
        default: return nil
        }
        if let value = attributes[FRA_FWMARK] {
            mark = Mark(value: value, mask: attributes[FRA_FWMASK] ?? .max)
        }
        if let name = attributes.values[Int(FRA_IIFNAME)] {
            guard name == Array(loopbackName.utf8) + [0] else { return nil }
            isOfThisMachine = true
        }
        if let number = attributes[FRA_IP_PROTO] {
            guard number == UInt32(tcpNumber) else { return nil }
            isTCP = true
        }
        if let range = attributes.values[Int(FRA_UID_RANGE)] {
            guard range.count == 8, range.prefix(4) == range.suffix(4) else { return nil }
            userID = Attributes.number(Array(range.prefix(4)))
        }
        if header.dst_len > 0 {
            guard let bytes = attributes.values[Int(FRA_DST)], bytes.count == Int(family.addressByteCount),
                Int(header.dst_len) == bytes.count * 8
            else { return nil }
            destination = bytes
        }
        // The kernel's own rules are of no interest.
        if mark == nil, !isOfThisMachine, destination == nil { return nil }
    }
}

/// The attributes of an rtnetlink message, by their types.
private struct Attributes {
    private(set) var values: [Int: [UInt8]] = [:]

    init(_ message: UnsafePointer<nlmsghdr>, after headerByteCount: Int) {
        guard let tail = unsafe mnl_nlmsg_get_payload_tail(message) else { return }
        let end = UnsafeRawPointer(tail)
        var attribute = unsafe mnl_nlmsg_get_payload_offset(message, headerByteCount)?
            .assumingMemoryBound(to: nlattr.self)
        while let next = unsafe attribute, unsafe UnsafeRawPointer(next) < end,
            unsafe mnl_attr_ok(next, Int32(end - UnsafeRawPointer(next)))
        {
            let type = unsafe Int(mnl_attr_get_type(next))
            let count = unsafe Int(mnl_attr_get_payload_len(next))
            values[type] = unsafe Array(
                UnsafeRawBufferPointer(start: mnl_attr_get_payload(next), count: count))
            unsafe attribute = mnl_attr_next(next)
        }
    }

    /// A byte or a 32-bit number; 0 for anything else.
    subscript(type: Int) -> UInt32? { values[type].map(Self.number) }

    static func number(_ bytes: [UInt8]) -> UInt32 {
        switch bytes.count {
        case 1: UInt32(bytes[0])
        case 4: bytes.enumerated().reduce(0) { $0 | UInt32($1.element) << (8 * $1.offset) }
        default: 0
        }
    }
}

extension UnsafeMutablePointer<nlmsghdr> {
    fileprivate func put(_ type: Int, _ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes {
            unsafe mnl_attr_put(self, UInt16(type), bytes.count, $0.baseAddress)
        }
    }

    fileprivate func begin(_ type: Int, flags: Int32, _ sequence: UInt32) {
        unsafe pointee.nlmsg_type = UInt16(type)
        unsafe pointee.nlmsg_flags = UInt16(NLM_F_REQUEST | NLM_F_ACK | flags)
        unsafe pointee.nlmsg_seq = sequence
    }
}

extension UnsafePointer<nlmsghdr> {
    /// The fixed part behind the netlink header, or nil in a message too short for it.
    fileprivate func header<Header>(_ type: Header.Type) -> Header? {
        guard unsafe mnl_nlmsg_get_payload_len(self) >= MemoryLayout<Header>.size else { return nil }
        return unsafe mnl_nlmsg_get_payload(self)?.loadUnaligned(as: Header.self)
    }
}
