import CNFTables

// Between `Table` and nftables' netlink messages (linux/netfilter/nf_tables.h), by libnftnl.

/// `NFPROTO_INET`: rules for IPv4 and IPv6 alike.
private let inetFamily: UInt16 = 1
private let acknowledged = UInt16(NLM_F_ACK)
/// The message that opens a batch may carry the generation it was made for; `NFNL_BATCH_GENID`.
private let generationAttribute: UInt16 = 1

/// Messages that change nftables' rules: all of them at once, or none (an nfnetlink batch).
struct TableTransaction {
    private(set) var batch: NetlinkBatch

    /// - Parameter generation: the generation of the rules that was looked at. When anything of nftables has changed in
    ///   the namespace since, the kernel refuses the batch (ERESTART), so nothing is replaced that was not seen.
    init(generation: UInt32, firstSequence: UInt32) {
        batch = NetlinkBatch(firstSequence: firstSequence)
        unsafe batch.append("the batch") { buffer, sequence in
            guard let message = unsafe nftnl_batch_begin(buffer, sequence) else { return nil }
            unsafe mnl_attr_put_u32(message, generationAttribute, generation.bigEndian)
            return unsafe message
        }
    }

    /// Closes the batch: the last message.
    mutating func end() {
        unsafe batch.append("the batch") { buffer, sequence in unsafe nftnl_batch_end(buffer, sequence) }
    }

    mutating func delete(tableNamed name: String) {
        unsafe append("table \(name)", NFT_MSG_DELTABLE, flags: acknowledged) { message in
            guard let table = unsafe nftnl_table_alloc() else { return }
            defer { unsafe nftnl_table_free(table) }
            unsafe nftnl_table_set_str(table, UInt16(NFTNL_TABLE_NAME.rawValue), name)
            unsafe nftnl_table_nlmsg_build_payload(message, table)
        }
    }

    /// Makes the table with everything in it; one that exists already is an error.
    mutating func create(_ table: Table) {
        unsafe append("table \(table.name)", NFT_MSG_NEWTABLE, flags: exclusively) { message in
            guard let encoded = unsafe nftnl_table_alloc() else { return }
            defer { unsafe nftnl_table_free(encoded) }
            unsafe nftnl_table_set_str(encoded, UInt16(NFTNL_TABLE_NAME.rawValue), table.name)
            unsafe nftnl_table_set_u32(encoded, UInt16(NFTNL_TABLE_FLAGS.rawValue), 0)
            let comment = Comment(table.tag).bytes
            _ = unsafe comment.withUnsafeBytes {
                unsafe nftnl_table_set_data(
                    encoded, UInt16(NFTNL_TABLE_USERDATA.rawValue), $0.baseAddress, UInt32($0.count))
            }
            unsafe nftnl_table_nlmsg_build_payload(message, encoded)
        }
        for chain in table.chains { create(chain, in: table) }
        for chain in table.chains {
            for rule in chain.rules { create(rule, in: chain, table) }
        }
    }

    private mutating func create(_ chain: Chain, in table: Table) {
        unsafe append("chain \(chain.name)", NFT_MSG_NEWCHAIN, flags: exclusively) { message in
            guard let encoded = unsafe nftnl_chain_alloc() else { return }
            defer { unsafe nftnl_chain_free(encoded) }
            unsafe nftnl_chain_set_str(encoded, UInt16(NFTNL_CHAIN_TABLE.rawValue), table.name)
            unsafe nftnl_chain_set_str(encoded, UInt16(NFTNL_CHAIN_NAME.rawValue), chain.name)
            unsafe nftnl_chain_set_str(encoded, UInt16(NFTNL_CHAIN_TYPE.rawValue), chain.kind.rawValue)
            unsafe nftnl_chain_set_u32(encoded, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue), chain.hook.rawValue)
            unsafe nftnl_chain_set_s32(encoded, UInt16(NFTNL_CHAIN_PRIO.rawValue), chain.priority)
            unsafe nftnl_chain_set_u32(encoded, UInt16(NFTNL_CHAIN_POLICY.rawValue), acceptVerdict)
            unsafe nftnl_chain_nlmsg_build_payload(message, encoded)
        }
    }

    private mutating func create(_ rule: Rule, in chain: Chain, _ table: Table) {
        unsafe append(
            rule.title(in: chain), NFT_MSG_NEWRULE,
            flags: acknowledged | UInt16(NLM_F_CREATE) | UInt16(NLM_F_APPEND)
        ) { message in
            guard let encoded = unsafe nftnl_rule_alloc() else { return }
            defer { unsafe nftnl_rule_free(encoded) }
            unsafe nftnl_rule_set_str(encoded, UInt16(NFTNL_RULE_TABLE.rawValue), table.name)
            unsafe nftnl_rule_set_str(encoded, UInt16(NFTNL_RULE_CHAIN.rawValue), chain.name)
            let comment = Comment(rule.comment).bytes
            _ = unsafe comment.withUnsafeBytes {
                unsafe nftnl_rule_set_data(
                    encoded, UInt16(NFTNL_RULE_USERDATA.rawValue), $0.baseAddress, UInt32($0.count))
            }
            for expression in rule.expressions {
                if let part = unsafe expression.encoded() { unsafe nftnl_rule_add_expr(encoded, part) }
            }
            unsafe nftnl_rule_nlmsg_build_payload(message, encoded)
        }
    }

    private var exclusively: UInt16 { acknowledged | UInt16(NLM_F_CREATE) | UInt16(NLM_F_EXCL) }

    private mutating func append(
        _ object: String, _ type: nf_tables_msg_types, flags: UInt16,
        _ fill: (UnsafeMutablePointer<nlmsghdr>) -> Void
    ) {
        unsafe batch.append(object) { buffer, sequence in
            guard
                let message = unsafe nftnl_nlmsg_build_hdr(
                    buffer, UInt16(type.rawValue), inetFamily, flags, sequence)
            else { return nil }
            unsafe fill(message)
            return unsafe message
        }
    }
}

extension NetlinkConversation {
    /// The number that changes with every change of nftables' rules in the namespace.
    mutating func generation() throws(CaptureError) -> UInt32 {
        var generation: UInt32?
        try unsafe dump(
            .readTable, "generation",
            { buffer, sequence in
                unsafe nftnl_nlmsg_build_hdr(
                    buffer, UInt16(NFT_MSG_GETGEN.rawValue), 0, UInt16(NLM_F_REQUEST), sequence)
            }, restart: { generation = nil }
        ) { message in
            var attribute = unsafe mnl_nlmsg_get_payload_offset(message, MemoryLayout<nfgenmsg>.size)?
                .assumingMemoryBound(to: nlattr.self)
            let end = unsafe UnsafeRawPointer(mnl_nlmsg_get_payload_tail(message))
            while let next = unsafe attribute, let end = unsafe end, unsafe UnsafeRawPointer(next) < end,
                unsafe mnl_attr_ok(next, Int32(end - UnsafeRawPointer(next)))
            {
                if unsafe Int32(mnl_attr_get_type(next)) == Int32(NFTA_GEN_ID.rawValue),
                    unsafe mnl_attr_get_payload_len(next) == 4
                {
                    generation = unsafe UInt32(bigEndian: mnl_attr_get_u32(next))
                }
                unsafe attribute = mnl_attr_next(next)
            }
        }
        guard let generation else { throw .malformedAnswer(.readTable, "no generation of the rules") }
        return generation
    }

    /// The table of this name, or nil.
    ///
    /// - Throws: `.foreignTable` when it does not carry the tag.
    mutating func table(
        named name: String, tag: String
    ) throws(CaptureError) -> FoundState.FoundTable? {
        var found: (tag: String?, flags: UInt32)?
        try unsafe listing(NFT_MSG_GETTABLE, "tables", restart: { found = nil }) { message in
            guard let table = unsafe nftnl_table_alloc() else { return }
            defer { unsafe nftnl_table_free(table) }
            guard unsafe nftnl_table_nlmsg_parse(message, table) >= 0,
                unsafe text(nftnl_table_get_str(table, UInt16(NFTNL_TABLE_NAME.rawValue))) == name
            else { return }
            var count: UInt32 = 0
            let data = unsafe nftnl_table_get_data(table, UInt16(NFTNL_TABLE_USERDATA.rawValue), &count)
            let comment = unsafe Comment(data, count)?.text
            found = unsafe (comment, nftnl_table_get_u32(table, UInt16(NFTNL_TABLE_FLAGS.rawValue)))
        }
        guard let found else { return nil }
        guard found.tag == tag else { throw .foreignTable(name: name) }
        let content = Table(name: name, tag: tag, chains: try chains(of: name))
        return FoundState.FoundTable(isDormant: found.flags & dormantFlag != 0, table: content)
    }

    private mutating func chains(of table: String) throws(CaptureError) -> [Chain] {
        var chains: [Chain] = []
        try unsafe listing(NFT_MSG_GETCHAIN, "chains", restart: { chains = [] }) { message in
            guard let chain = unsafe nftnl_chain_alloc() else { return }
            defer { unsafe nftnl_chain_free(chain) }
            guard unsafe nftnl_chain_nlmsg_parse(message, chain) >= 0,
                unsafe text(nftnl_chain_get_str(chain, UInt16(NFTNL_CHAIN_TABLE.rawValue))) == table
            else { return }
            chains.append(unsafe Chain(chain))
        }
        var rules: [String: [Rule]] = [:]
        try unsafe listing(NFT_MSG_GETRULE, "rules", restart: { rules = [:] }) { message in
            guard let rule = unsafe nftnl_rule_alloc() else { return }
            defer { unsafe nftnl_rule_free(rule) }
            guard unsafe nftnl_rule_nlmsg_parse(message, rule) >= 0,
                unsafe text(nftnl_rule_get_str(rule, UInt16(NFTNL_RULE_TABLE.rawValue))) == table,
                let chain = unsafe text(nftnl_rule_get_str(rule, UInt16(NFTNL_RULE_CHAIN.rawValue)))
            else { return }
            rules[chain, default: []].append(unsafe Rule(rule))
        }
        for index in chains.indices { chains[index].rules = rules[chains[index].name] ?? [] }
        return chains
    }

    private mutating func listing(
        _ type: nf_tables_msg_types, _ object: String, restart: () -> Void,
        _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(CaptureError) {
        try unsafe dump(
            .readTable, object,
            { buffer, sequence in
                unsafe nftnl_nlmsg_build_hdr(
                    buffer, UInt16(type.rawValue), inetFamily, UInt16(NLM_F_DUMP), sequence)
            }, restart: restart, body)
    }
}

extension Chain {
    /// A chain that is no base chain, or one that hangs where ours never do, is read as something that differs.
    fileprivate init(_ encoded: OpaquePointer) {
        let name = unsafe text(nftnl_chain_get_str(encoded, UInt16(NFTNL_CHAIN_NAME.rawValue)))
        let kind = unsafe text(nftnl_chain_get_str(encoded, UInt16(NFTNL_CHAIN_TYPE.rawValue)))
        let hook = unsafe nftnl_chain_get_u32(encoded, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue))
        let accepts =
            unsafe nftnl_chain_get_u32(encoded, UInt16(NFTNL_CHAIN_POLICY.rawValue)) == acceptVerdict
        let priority = unsafe nftnl_chain_get_s32(encoded, UInt16(NFTNL_CHAIN_PRIO.rawValue))
        let isKnown = kind.flatMap(Kind.init) != nil && Hook(rawValue: hook) != nil && accepts
        self.init(
            name: name ?? "", kind: kind.flatMap(Kind.init) ?? .filter, hook: Hook(rawValue: hook) ?? .output,
            priority: isKnown ? priority : .max, rules: [])
    }
}

extension Rule {
    fileprivate init(_ encoded: OpaquePointer) {
        var count: UInt32 = 0
        let data = unsafe nftnl_rule_get_data(encoded, UInt16(NFTNL_RULE_USERDATA.rawValue), &count)
        var expressions: [Expression] = []
        if let iterator = unsafe nftnl_expr_iter_create(encoded) {
            while let expression = unsafe nftnl_expr_iter_next(iterator) {
                expressions.append(unsafe Expression(expression))
            }
            unsafe nftnl_expr_iter_destroy(iterator)
        }
        self.init(comment: unsafe Comment(data, count)?.text ?? "", expressions: expressions)
    }
}

/// A comment as `nft` stores and shows it: type 0, a length, text with a NUL. The same for tables and rules.
private struct Comment {
    /// `nft` itself accepts no longer ones.
    static let byteLimit = 127

    let text: String

    init(_ text: String) {
        self.text = text
    }

    init?(_ data: UnsafeRawPointer?, _ count: UInt32) {
        guard let data = unsafe data else { return nil }
        let bytes = unsafe UnsafeRawBufferPointer(start: data, count: Int(count))
        guard bytes.count >= 3, unsafe bytes[0] == 0, unsafe Int(bytes[1]) <= bytes.count - 2 else {
            return nil
        }
        let content = unsafe bytes[2..<(2 + Int(bytes[1]))].prefix { $0 != 0 }
        text = unsafe String(decoding: content, as: UTF8.self)
    }

    var bytes: [UInt8] {
        let content = Array(text.utf8.prefix(Self.byteLimit)) + [0]
        return [0, UInt8(content.count)] + content
    }
}

/// `NFT_TABLE_F_DORMANT`
private let dormantFlag: UInt32 = 1

private func text(_ pointer: UnsafePointer<CChar>?) -> String? {
    guard let pointer = unsafe pointer else { return nil }
    return unsafe String(cString: pointer)
}
