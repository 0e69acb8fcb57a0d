/// One instruction of nftables' small register machine, as far as the capture rules need it. Everything goes through
/// register 1, so no register is spelled out.
public enum Expression: Hashable, Sendable {
    /// Facts about a packet that are not in the packet.
    public enum Meta: Hashable, Sendable, CaseIterable {
        case layer3Protocol, layer4Protocol, mark, socketUserID, outputInterface, inputInterface,
            inputInterfaceName
    }

    public enum Header: Hashable, Sendable, CaseIterable { case network, transport }

    /// Which way a packet goes, seen from who opened its connection (`IP_CT_DIR_…`).
    public enum Direction: UInt8, Hashable, Sendable { case original, reply }

    public enum Comparison: Hashable, Sendable, CaseIterable { case equal, notEqual }

    case loadMeta(Meta)
    case storeMark
    case loadConnectionMark
    /// One byte: a `Direction`.
    case loadConnectionDirection
    case storeConnectionMark
    /// `byteCount` bytes of a header, in network order.
    case loadPayload(Header, offset: UInt32, byteCount: UInt32)
    case bitwise(and: [UInt8], xor: [UInt8])
    /// Goes on with the rule if the register compares so with the bytes; otherwise the rule ends here.
    case compare(Comparison, [UInt8])
    case loadConstant([UInt8])
    /// To this machine, at the port (network order) that was loaded last.
    case redirect
    /// To a transparent listener of this machine at the port (network order) that was loaded last, or to the transparent
    /// socket that has the connection already; the packet stays as it is. Where there is neither, the rule ends here. The
    /// family is nil in a rule that says nothing about it.
    case transparentProxy(Family?)
    /// Refuses a TCP packet with a reset.
    case rejectWithReset
    case accept
    /// Something found in a dump that the capture rules never contain.
    case foreign(String)
}

/// A part of a rule in words: the few instructions that one condition or action takes.
struct Clause {
    let expressions: [Expression]

    static let isTCP = Clause(expressions: [.loadMeta(.layer4Protocol), .compare(.equal, [6])])
    static let accept = Clause(expressions: [.accept])

    static func family(_ family: Family) -> Clause {
        Clause(expressions: [.loadMeta(.layer3Protocol), .compare(.equal, [family.number])])
    }

    static func source(_ family: Family, _ address: [UInt8]) -> Clause {
        Clause(expressions: [
            .loadPayload(.network, offset: family.sourceOffset, byteCount: family.addressByteCount),
            .compare(.equal, address),
        ])
    }

    static func destination(
        _ family: Family, _ comparison: Expression.Comparison, _ address: [UInt8]
    ) -> Clause {
        Clause(expressions: [
            .loadPayload(.network, offset: family.destinationOffset, byteCount: family.addressByteCount),
            .compare(comparison, address),
        ])
    }

    /// Reads the transport header: only behind `isTCP`.
    static func destinationPort(_ comparison: Expression.Comparison, _ port: UInt16) -> Clause {
        Clause(expressions: [
            .loadPayload(.transport, offset: 2, byteCount: 2), .compare(comparison, networkOrder(port)),
        ])
    }

    static func mark(_ comparison: Expression.Comparison, _ mark: Mark) -> Clause {
        Clause(expressions: [.loadMeta(.mark)] + masked(comparison, mark))
    }

    static func connectionMark(_ comparison: Expression.Comparison, _ mark: Mark) -> Clause {
        Clause(expressions: [.loadConnectionMark] + masked(comparison, mark))
    }

    static func direction(_ direction: Expression.Direction) -> Clause {
        Clause(expressions: [.loadConnectionDirection, .compare(.equal, [direction.rawValue])])
    }

    /// The socket that sends the packet belongs to this user. Only where packets leave: an incoming packet has no
    /// socket yet, and a rule that asks for one never matches.
    static func socketOwner(_ userID: UInt32, _ comparison: Expression.Comparison = .equal) -> Clause {
        Clause(expressions: [.loadMeta(.socketUserID), .compare(comparison, hostOrder(userID))])
    }

    /// Leaves over the loopback interface, whose index is 1 in every namespace.
    static let leavesOverLoopback = Clause(expressions: [
        .loadMeta(.outputInterface), .compare(.equal, hostOrder(loopbackInterfaceIndex)),
    ])

    /// Whether it comes over the loopback interface.
    static func fromLoopback(_ comparison: Expression.Comparison) -> Clause {
        Clause(expressions: [
            .loadMeta(.inputInterface), .compare(comparison, hostOrder(loopbackInterfaceIndex)),
        ])
    }

    /// The destination is neither loopback, nor link-local, nor one of these.
    static func destinationIsElsewhere(_ family: Family, than own: [[UInt8]]) -> Clause {
        let load = Expression.loadPayload(
            .network, offset: family.destinationOffset, byteCount: family.addressByteCount)
        let others = [load] + own.map { .compare(.notEqual, $0) }
        switch family {
        case .ipv4:
            let network = Expression.bitwise(and: [255, 0, 0, 0], xor: [0, 0, 0, 0])
            return Clause(expressions: others + [network, .compare(.notEqual, [127, 0, 0, 0])])
        case .ipv6:
            // fe80::/10, which never goes to loopback but to ourselves.
            let zeros = [UInt8](repeating: 0, count: 14)
            let network = Expression.bitwise(and: [0xff, 0xc0] + zeros, xor: [0, 0] + zeros)
            return Clause(
                expressions: others + [
                    .compare(.notEqual, family.loopback), network, .compare(.notEqual, [0xfe, 0x80] + zeros),
                ])
        }
    }

    /// Some of TCP's flags, the fourteenth byte of its header. Only behind `isTCP`.
    static func flags(_ mask: TCPFlags, _ comparison: Expression.Comparison, _ value: TCPFlags) -> Clause {
        Clause(expressions: [
            .loadPayload(.transport, offset: 13, byteCount: 1),
            .bitwise(and: [mask.rawValue], xor: [0]), .compare(comparison, [value.rawValue]),
        ])
    }

    static func arrivesOn(_ interface: InterfaceName) -> Clause {
        Clause(expressions: [.loadMeta(.inputInterfaceName), .compare(.equal, interface.padded)])
    }

    static func setMark(_ mark: Mark) -> Clause {
        Clause(expressions: [.loadMeta(.mark), replacingBits(mark), .storeMark])
    }

    static func setConnectionMark(_ mark: Mark) -> Clause {
        Clause(expressions: [.loadConnectionMark, replacingBits(mark), .storeConnectionMark])
    }

    static func clearMark(_ mask: UInt32) -> Clause {
        setMark(Mark(value: 0, mask: mask))
    }

    static func transparentProxy(_ family: Family?, to port: UInt16) -> Clause {
        Clause(expressions: [.loadConstant(networkOrder(port)), .transparentProxy(family), .accept])
    }

    static let rejectWithReset = Clause(expressions: [.rejectWithReset])

    static func redirect(to port: UInt16) -> Clause {
        Clause(expressions: [.loadConstant(networkOrder(port)), .redirect])
    }

    private static func masked(_ comparison: Expression.Comparison, _ mark: Mark) -> [Expression] {
        [
            .bitwise(and: hostOrder(mark.mask), xor: hostOrder(0)),
            .compare(comparison, hostOrder(mark.value)),
        ]
    }

    private static func replacingBits(_ mark: Mark) -> Expression {
        .bitwise(and: hostOrder(~mark.mask), xor: hostOrder(mark.value))
    }
}

/// RFC 9293 §3.1.
struct TCPFlags: OptionSet, Hashable, Sendable {
    let rawValue: UInt8

    static let syn = TCPFlags(rawValue: 2)
    static let ack = TCPFlags(rawValue: 16)
}

/// Loopback is created first in every network namespace; the kernel relies on it (`LOOPBACK_IFINDEX`).
let loopbackInterfaceIndex: UInt32 = 1

func networkOrder(_ number: UInt16) -> [UInt8] {
    [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
}

func hostOrder(_ number: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: number.littleEndian >> ($0 * 8)) }
}
