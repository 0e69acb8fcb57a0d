import CNFTables

// Between `Expression` and libnftnl's expressions, both ways. Reading is strict: whatever the capture rules would not
// write comes back as `.foreign`, so that a comparison of a dump with the rules finds it.

extension Expression {
    /// The libnftnl expression; its owner is the rule that it is added to. Nil only without memory.
    func encoded() -> OpaquePointer? {
        switch self {
        case .loadMeta(let meta):
            unsafe Self.make("meta") { expression in
                unsafe expression.set(NFTNL_EXPR_META_KEY, meta.number)
                unsafe expression.set(NFTNL_EXPR_META_DREG, register)
            }
        case .storeMark:
            unsafe Self.make("meta") { expression in
                unsafe expression.set(NFTNL_EXPR_META_KEY, Meta.mark.number)
                unsafe expression.set(NFTNL_EXPR_META_SREG, register)
            }
        case .loadConnectionMark:
            unsafe Self.make("ct") { expression in
                unsafe expression.set(NFTNL_EXPR_CT_KEY, NFT_CT_MARK.rawValue)
                unsafe expression.set(NFTNL_EXPR_CT_DREG, register)
            }
        case .loadConnectionDirection:
            unsafe Self.make("ct") { expression in
                unsafe expression.set(NFTNL_EXPR_CT_KEY, NFT_CT_DIRECTION.rawValue)
                unsafe expression.set(NFTNL_EXPR_CT_DREG, register)
            }
        case .storeConnectionMark:
            unsafe Self.make("ct") { expression in
                unsafe expression.set(NFTNL_EXPR_CT_KEY, NFT_CT_MARK.rawValue)
                unsafe expression.set(NFTNL_EXPR_CT_SREG, register)
            }
        case .loadPayload(let header, let offset, let byteCount):
            unsafe Self.make("payload") { expression in
                unsafe expression.set(NFTNL_EXPR_PAYLOAD_BASE, header.number)
                unsafe expression.set(NFTNL_EXPR_PAYLOAD_OFFSET, offset)
                unsafe expression.set(NFTNL_EXPR_PAYLOAD_LEN, byteCount)
                unsafe expression.set(NFTNL_EXPR_PAYLOAD_DREG, register)
            }
        case .bitwise(let mask, let xor):
            unsafe Self.make("bitwise") { expression in
                unsafe expression.set(NFTNL_EXPR_BITWISE_SREG, register)
                unsafe expression.set(NFTNL_EXPR_BITWISE_DREG, register)
                unsafe expression.set(NFTNL_EXPR_BITWISE_LEN, UInt32(mask.count))
                unsafe expression.set(NFTNL_EXPR_BITWISE_MASK, mask)
                unsafe expression.set(NFTNL_EXPR_BITWISE_XOR, xor)
            }
        case .compare(let comparison, let bytes):
            unsafe Self.make("cmp") { expression in
                unsafe expression.set(NFTNL_EXPR_CMP_SREG, register)
                unsafe expression.set(NFTNL_EXPR_CMP_OP, comparison.number)
                unsafe expression.set(NFTNL_EXPR_CMP_DATA, bytes)
            }
        case .loadConstant(let bytes):
            unsafe Self.make("immediate") { expression in
                unsafe expression.set(NFTNL_EXPR_IMM_DREG, register)
                unsafe expression.set(NFTNL_EXPR_IMM_DATA, bytes)
            }
        case .redirect:
            unsafe Self.make("redir") { expression in
                unsafe expression.set(NFTNL_EXPR_REDIR_REG_PROTO_MIN, register)
                unsafe expression.set(NFTNL_EXPR_REDIR_REG_PROTO_MAX, register)
                unsafe expression.set(NFTNL_EXPR_REDIR_FLAGS, portIsSpecified)
            }
        case .transparentProxy(let family):
            unsafe Self.make("tproxy") { expression in
                unsafe expression.set(NFTNL_EXPR_TPROXY_FAMILY, UInt32(family?.number ?? unspecifiedFamily))
                unsafe expression.set(NFTNL_EXPR_TPROXY_REG_PORT, register)
            }
        case .rejectWithReset:
            unsafe Self.make("reject") { expression in
                unsafe expression.set(NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST.rawValue)
            }
        case .accept:
            unsafe Self.make("immediate") { expression in
                unsafe expression.set(NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT.rawValue)
                unsafe expression.set(NFTNL_EXPR_IMM_VERDICT, acceptVerdict)
            }
        case .foreign: nil
        }
    }

    init(_ encoded: OpaquePointer) {
        let name = unsafe nftnl_expr_get_str(encoded, UInt16(NFTNL_EXPR_NAME)).map {
            unsafe String(cString: $0)
        }
        let known: Expression? =
            switch name {
            case "meta": unsafe Self.meta(encoded)
            case "ct": unsafe Self.connection(encoded)
            case "payload": unsafe Self.payload(encoded)
            case "bitwise": unsafe Self.bitwise(encoded)
            case "cmp": unsafe Self.comparison(encoded)
            case "immediate": unsafe Self.immediate(encoded)
            case "tproxy": unsafe Self.proxying(encoded)
            case "reject":
                unsafe encoded.number(NFTNL_EXPR_REJECT_TYPE) == NFT_REJECT_TCP_RST.rawValue
                    ? .rejectWithReset : nil
            case "redir": unsafe Self.redirection(encoded)
            default: nil
            }
        self = known ?? .foreign(name ?? "?")
    }

    private static func meta(_ encoded: OpaquePointer) -> Expression? {
        guard let number = unsafe encoded.number(NFTNL_EXPR_META_KEY) else { return nil }
        if unsafe encoded.number(NFTNL_EXPR_META_SREG) == register {
            return number == Meta.mark.number ? .storeMark : nil
        }
        guard unsafe encoded.number(NFTNL_EXPR_META_DREG) == register else { return nil }
        return Meta.allCases.first { $0.number == number }.map { .loadMeta($0) }
    }

    private static func connection(_ encoded: OpaquePointer) -> Expression? {
        let isLoaded = unsafe encoded.number(NFTNL_EXPR_CT_DREG) == register
        switch unsafe encoded.number(NFTNL_EXPR_CT_KEY) {
        case NFT_CT_MARK.rawValue:
            if unsafe encoded.number(NFTNL_EXPR_CT_SREG) == register { return .storeConnectionMark }
            return isLoaded ? .loadConnectionMark : nil
        case NFT_CT_DIRECTION.rawValue: return isLoaded ? .loadConnectionDirection : nil
        default: return nil
        }
    }

    private static func payload(_ encoded: OpaquePointer) -> Expression? {
        guard unsafe encoded.number(NFTNL_EXPR_PAYLOAD_DREG) == register,
            let base = unsafe encoded.number(NFTNL_EXPR_PAYLOAD_BASE),
            let header = Header.allCases.first(where: { $0.number == base }),
            let offset = unsafe encoded.number(NFTNL_EXPR_PAYLOAD_OFFSET),
            let byteCount = unsafe encoded.number(NFTNL_EXPR_PAYLOAD_LEN)
        else { return nil }
        return .loadPayload(header, offset: offset, byteCount: byteCount)
    }

    private static func bitwise(_ encoded: OpaquePointer) -> Expression? {
        guard unsafe encoded.number(NFTNL_EXPR_BITWISE_SREG) == register,
            unsafe encoded.number(NFTNL_EXPR_BITWISE_DREG) == register,
            unsafe encoded.number(NFTNL_EXPR_BITWISE_OP) ?? 0 == maskAndXor,
            let mask = unsafe encoded.bytes(NFTNL_EXPR_BITWISE_MASK),
            let xor = unsafe encoded.bytes(NFTNL_EXPR_BITWISE_XOR)
        else { return nil }
        return .bitwise(and: mask, xor: xor)
    }

    private static func comparison(_ encoded: OpaquePointer) -> Expression? {
        guard unsafe encoded.number(NFTNL_EXPR_CMP_SREG) == register,
            let number = unsafe encoded.number(NFTNL_EXPR_CMP_OP),
            let comparison = Comparison.allCases.first(where: { $0.number == number }),
            let bytes = unsafe encoded.bytes(NFTNL_EXPR_CMP_DATA)
        else { return nil }
        return .compare(comparison, bytes)
    }

    private static func immediate(_ encoded: OpaquePointer) -> Expression? {
        switch unsafe encoded.number(NFTNL_EXPR_IMM_DREG) {
        case NFT_REG_VERDICT.rawValue:
            return unsafe encoded.number(NFTNL_EXPR_IMM_VERDICT) == acceptVerdict ? .accept : nil
        case register: return unsafe encoded.bytes(NFTNL_EXPR_IMM_DATA).map { .loadConstant($0) }
        default: return nil
        }
    }

    private static func proxying(_ encoded: OpaquePointer) -> Expression? {
        guard unsafe encoded.number(NFTNL_EXPR_TPROXY_REG_PORT) == register,
            // Set and 0 is how libnftnl reads a rule that names no address.
            unsafe encoded.number(NFTNL_EXPR_TPROXY_REG_ADDR) ?? 0 == 0,
            let number = unsafe encoded.number(NFTNL_EXPR_TPROXY_FAMILY)
        else { return nil }
        if number == UInt32(unspecifiedFamily) { return .transparentProxy(nil) }
        return Family.allCases.first { UInt32($0.number) == number }.map { .transparentProxy($0) }
    }

    private static func redirection(_ encoded: OpaquePointer) -> Expression? {
        let usesOurRegister =
            unsafe encoded.number(NFTNL_EXPR_REDIR_REG_PROTO_MIN) == register
            && encoded.number(NFTNL_EXPR_REDIR_REG_PROTO_MAX) == register
            && encoded.number(NFTNL_EXPR_REDIR_FLAGS) == portIsSpecified
        return usesOurRegister ? .redirect : nil
    }

    private static func make(_ name: String, _ fill: (OpaquePointer) -> Void) -> OpaquePointer? {
        guard let expression = unsafe nftnl_expr_alloc(name) else { return nil }
        unsafe fill(expression)
        return unsafe expression
    }
}

/// The one register in use, 16 bytes wide.
private let register = NFT_REG_1.rawValue
/// `NFT_BITWISE_MASK_XOR`; older headers call it `NFT_BITWISE_BOOL`.
private let maskAndXor: UInt32 = 0
/// `NF_ACCEPT`, whose header does not go together with Glibc's.
let acceptVerdict: UInt32 = 1
/// `NFPROTO_UNSPEC`
private let unspecifiedFamily: UInt8 = 0
/// `NF_NAT_RANGE_PROTO_SPECIFIED`: the redirection names a port.
private let portIsSpecified: UInt32 = 2

extension Expression.Meta {
    fileprivate var number: UInt32 {
        switch self {
        case .layer3Protocol: NFT_META_NFPROTO.rawValue
        case .layer4Protocol: NFT_META_L4PROTO.rawValue
        case .mark: NFT_META_MARK.rawValue
        case .socketUserID: NFT_META_SKUID.rawValue
        case .outputInterface: NFT_META_OIF.rawValue
        case .inputInterface: NFT_META_IIF.rawValue
        case .inputInterfaceName: NFT_META_IIFNAME.rawValue
        }
    }
}

extension Expression.Header {
    fileprivate var number: UInt32 {
        self == .network ? NFT_PAYLOAD_NETWORK_HEADER.rawValue : NFT_PAYLOAD_TRANSPORT_HEADER.rawValue
    }
}

extension Expression.Comparison {
    fileprivate var number: UInt32 { self == .equal ? NFT_CMP_EQ.rawValue : NFT_CMP_NEQ.rawValue }
}

extension OpaquePointer {
    /// A libnftnl expression's attribute; libnftnl copies the bytes.
    fileprivate func set(_ attribute: Int, _ number: UInt32) {
        unsafe nftnl_expr_set_u32(self, UInt16(attribute), number)
    }

    fileprivate func set(_ attribute: Int, _ bytes: [UInt8]) {
        _ = unsafe bytes.withUnsafeBytes {
            unsafe nftnl_expr_set(self, UInt16(attribute), $0.baseAddress, UInt32($0.count))
        }
    }

    fileprivate func number(_ attribute: Int) -> UInt32? {
        guard unsafe nftnl_expr_is_set(self, UInt16(attribute)) else { return nil }
        return unsafe nftnl_expr_get_u32(self, UInt16(attribute))
    }

    fileprivate func bytes(_ attribute: Int) -> [UInt8]? {
        guard unsafe nftnl_expr_is_set(self, UInt16(attribute)) else { return nil }
        var count: UInt32 = 0
        guard let start = unsafe nftnl_expr_get(self, UInt16(attribute), &count) else { return nil }
        return unsafe Array(UnsafeRawBufferPointer(start: start, count: Int(count)))
    }
}
