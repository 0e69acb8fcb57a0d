/// What went wrong with an exchange, by the names that access logs and metrics have for it (Envoy's `%RESPONSE_FLAGS%`).
public struct ResponseFlags: OptionSet, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let noRoute = ResponseFlags(rawValue: 1 << 0)
    public static let noHealthyUpstream = ResponseFlags(rawValue: 1 << 1)
    public static let upstreamConnectFailure = ResponseFlags(rawValue: 1 << 2)
    public static let upstreamOverflow = ResponseFlags(rawValue: 1 << 3)
    public static let retryLimit = ResponseFlags(rawValue: 1 << 4)
    public static let noCluster = ResponseFlags(rawValue: 1 << 5)
    public static let upstreamTimeout = ResponseFlags(rawValue: 1 << 6)
    public static let upstreamReset = ResponseFlags(rawValue: 1 << 7)
    public static let upstreamTermination = ResponseFlags(rawValue: 1 << 8)
    public static let upstreamProtocolError = ResponseFlags(rawValue: 1 << 9)
    public static let delayInjected = ResponseFlags(rawValue: 1 << 10)
    public static let faultInjected = ResponseFlags(rawValue: 1 << 11)
    public static let downstreamTermination = ResponseFlags(rawValue: 1 << 12)
    public static let downstreamProtocolError = ResponseFlags(rawValue: 1 << 13)
    public static let streamIdle = ResponseFlags(rawValue: 1 << 14)
    public static let overload = ResponseFlags(rawValue: 1 << 15)

    private static let names = [
        "NR", "UH", "UF", "UO", "URX", "NC", "UT", "UR", "UC", "UPE", "DI", "FI", "DC", "DPE", "SI", "OM",
    ]

    /// `-`, or the flags with commas between them.
    public var description: String {
        isEmpty
            ? "-"
            : Self.names.indices.filter { rawValue & 1 << UInt32($0) != 0 }.map { Self.names[$0] }
                .joined(separator: ",")
    }
}
