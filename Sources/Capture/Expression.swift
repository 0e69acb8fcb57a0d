/// One instruction of nftables' small register machine, as far as the capture rules need it. Everything goes through
/// register 1, so no register is spelled out.
public enum Expression: Hashable, Sendable {
    /// Facts about a packet that are not in the packet.
    public enum Meta: Hashable, Sendable, CaseIterable {
        case layer3Protocol, layer4Protocol, mark, socketUserID, outputInterface, inputInterfaceName
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
    static func socketOwner(_ userID: UInt32) -> Clause {
        Clause(expressions: [.loadMeta(.socketUserID), .compare(.equal, hostOrder(userID))])
    }

    /// Leaves over the loopback interface, whose index is 1 in every namespace.
    static let leavesOverLoopback = Clause(expressions: [
        .loadMeta(.outputInterface), .compare(.equal, hostOrder(loopbackInterfaceIndex)),
    ])

    static func arrivesOn(_ interface: InterfaceName) -> Clause {
        Clause(expressions: [.loadMeta(.inputInterfaceName), .compare(.equal, interface.padded)])
    }

    static func setMark(_ mark: Mark) -> Clause {
        Clause(expressions: [.loadMeta(.mark), replacingBits(mark), .storeMark])
    }

    static func setConnectionMark(_ mark: Mark) -> Clause {
        Clause(expressions: [.loadConnectionMark, replacingBits(mark), .storeConnectionMark])
    }

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

/// Loopback is created first in every network namespace; the kernel relies on it (`LOOPBACK_IFINDEX`).
let loopbackInterfaceIndex: UInt32 = 1

func networkOrder(_ number: UInt16) -> [UInt8] {
    [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
}

func hostOrder(_ number: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: number.littleEndian >> ($0 * 8)) }
}
