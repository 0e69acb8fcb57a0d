/// Whose word it is by which TCP congestion control connections send.
public enum CongestionChoice: Equatable, Sendable, LosslessStringConvertible {
    /// The path's: see `CongestionPlan`.
    case auto
    /// The operator's, for everything of the namespace (`net.ipv4.tcp_congestion_control`) or of a route (`congctl`).
    case system
    /// The operator's, for these connections: a name as in `net.ipv4.tcp_available_congestion_control`.
    case named(String)

    /// - Returns: nil for what cannot be a name: the kernel's have at most 15 bytes.
    public init?(_ text: String) {
        switch text {
        case "auto": self = .auto
        case "system": self = .system
        case _
        where (1...15).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21...0x7e).contains($0) }:
            self = .named(text)
        default: return nil
        }
    }

    public var description: String {
        switch self {
        case .auto: "auto"
        case .system: "system"
        case .named(let name): name
        }
    }
}

/// By which TCP congestion control the connections of one namespace send.
///
/// BBR paces: a timer of the kernel lets out a part of a large write, again and again. Over long and shared paths that is
/// what makes it good. Over one that answers within a millisecond there is no more under way than a switch's buffer takes,
/// so there is nothing to pace, and the timers cost up to a fifth of bulk's CPU (`Tools/benchmarks/RESULTS.md`). So
/// connections begin without it, for a socket that has once been BBR's stays paced, and get it when their handshake has
/// shown a longer path. What else the operator has chosen does not pace by timers, and stays.
public struct CongestionPlan: Equatable, Sendable {
    /// What connections begin with: the first of these that the kernel has. Empty for what it takes by itself.
    public let beginning: [String]
    /// What they change to over a long path; nil for nothing.
    public let far: String?

    /// A path on which answers take as long as this is a long one: more than a rack or a data centre has, less than there is
    /// between two of them.
    static let farRoundTrip = Duration.milliseconds(1)

    /// Leaves everything to the kernel.
    public static let system = CongestionPlan(.system, system: "")

    /// - Parameter system: the name of what new sockets of the namespace have by themselves.
    public init(_ choice: CongestionChoice, system: String) {
        switch choice {
        case .auto where system.hasPrefix("bbr"):
            // The kernel's own default, and what every kernel has.
            beginning = ["cubic", "reno"]
            far = system
        case .auto, .system:
            beginning = []
            far = nil
        case .named(let name):
            beginning = [name]
            far = nil
        }
    }

    /// What a connection is to change to behind its handshake; nil for nothing.
    ///
    /// - Parameters:
    ///   - current: what it has. It is not what it began with where its route asks for another: then that stays.
    ///   - roundTrip: the shortest so far; nil when the kernel has measured none, which counts as long.
    func change(from current: String, roundTrip: Duration?) -> String? {
        guard let far, beginning.contains(current) else { return nil }
        if let roundTrip, roundTrip < Self.farRoundTrip { return nil }
        return far
    }
}
