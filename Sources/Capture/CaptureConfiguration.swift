import Address

/// Some bits of a packet or connection mark: `value` under `mask`. The other bits belong to somebody else and are
/// neither looked at nor changed.
public struct Mark: Hashable, Sendable, CustomStringConvertible {
    public let value: UInt32
    public let mask: UInt32

    public init(value: UInt32, mask: UInt32) {
        self.value = value & mask
        self.mask = mask
    }

    public var description: String { "0x\(String(value, radix: 16))/0x\(String(mask, radix: 16))" }
}

/// How connections are brought to the daemon (see `CaptureRules`).
public enum CaptureMethod: String, Hashable, Sendable, CaseIterable {
    /// By routing and transparent listeners: the kernel keeps no record of the pod's connections.
    case untracked
    /// By redirection, which takes connection tracking.
    case tracked
}

/// What the rules of a namespace depend on. The defaults are Istio's (ztunnel.md §1.3), so that a pod looks the
/// same to every tool that knows ambient mode.
public struct CaptureConfiguration: Hashable, Sendable {
    /// Where connections that the workload opens are sent.
    public var outboundPort: UInt16 = 15001
    /// Where connections that others open to the workload without a tunnel are sent.
    public var inboundPort: UInt16 = 15006
    /// Where tunnels arrive. Addressed by the peer itself, hence never redirected.
    public var tunnelPort: UInt16 = 15008
    /// `SO_MARK` of every socket of the daemon.
    public var packetMark = Mark(value: 0x539, mask: 0xfff)
    /// Marks connections to the workload that carry somebody else's source address, and routes their answers back.
    public var connectionMark = Mark(value: 0x111, mask: 0xfff)
    /// Marks what arrives over other interfaces than loopback where nothing is tracked, so that the kernel's own answers
    /// (resets, acknowledgements without a socket) and its check of sources go by the ordinary routes.
    public var arrivalMark = Mark(value: 0x112, mask: 0xfff)
    /// The routing table that delivers everything locally, and the priority of the rule that leads there.
    public var routingTable: UInt32 = 100
    public var routingPriority: UInt32 = 32764
    /// The uid that the daemon's sockets belong to. An application may set the mark; it does not have the uid.
    public var daemonUserID: UInt32
    /// The addresses that health probes come from. Set on Kubernetes only: nobody else makes such packets, and an
    /// exemption that nobody needs is a hole.
    public var probeAddresses: [IPAddress] = []
    /// False for a workload that takes plain connections itself
    /// (`ambient.istio.io/bypass-inbound-capture: "true"`); what it opens is still captured.
    public var capturesInbound = true
    /// Interfaces whose incoming traffic counts as the workload's own: virtual machines and nested containers
    /// (`istio.io/reroute-virtual-interfaces`).
    public var reroutedInterfaces: [InterfaceName] = []

    /// What is wanted; `method` says what the rules then are.
    public var preferredMethod = CaptureMethod.tracked
    /// All addresses of the workload, its first of each family foremost: what its own connections come from. Without
    /// tracking nothing is captured in a family that has none: connections there are refused.
    public var workloadAddresses: [IPAddress] = []

    /// What else the namespace holds of addresses, loopback and link-local ones aside; filled in where rules are written.
    var furtherAddresses: [IPAddress] = []

    /// All addresses of the namespace, each once and in a fixed order. So many that a rule has room for all.
    func ownAddresses(_ family: Family) -> [[UInt8]] {
        var seen: Set<IPAddress> = []
        let all = workloadAddresses + furtherAddresses.filter { !$0.isLoopback }.sorted()
        var own: [[UInt8]] = []
        for address in all where Family(address) == family && seen.insert(address).inserted {
            let bytes = address.bytes
            let isLinkLocal: Bool = family == .ipv6 && bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
            if !isLinkLocal, own.count < Self.addressLimit { own.append(bytes) }
        }
        return own
    }

    /// A rule with as many takes half of `NetlinkBatch.messageLimit`.
    private static let addressLimit = 40

    /// A workload that takes connections itself answers them to where they came from, and what a virtual machine opens does
    /// not come over loopback: both need tracking.
    public var method: CaptureMethod {
        capturesInbound && reroutedInterfaces.isEmpty ? preferredMethod : .tracked
    }

    public init(daemonUserID: UInt32) {
        self.daemonUserID = daemonUserID
    }
}

/// The name of a network interface, as Linux allows it: 1 to 15 bytes without slash, space or NUL.
public struct InterfaceName: Hashable, Sendable, CustomStringConvertible {
    public let description: String

    public init?(_ name: String) {
        let isAllowed = name.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "/") }
        guard (1...15).contains(name.utf8.count), isAllowed, name != ".", name != ".." else { return nil }
        description = name
    }

    /// Padded to the 16 bytes that the kernel compares.
    var padded: [UInt8] {
        Array(description.utf8) + Array(repeating: 0, count: 16 - description.utf8.count)
    }
}
