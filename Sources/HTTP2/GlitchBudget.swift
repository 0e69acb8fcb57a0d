/// Something that the protocol allows, that costs us work and gains an honest peer nothing when it is done in plenty.
public enum Glitch: UInt8, CaseIterable, Hashable, Sendable {
    /// PING (CVE-2019-9512).
    case ping
    /// SETTINGS, GOAWAY, and acknowledgements that nobody asked for (CVE-2019-9515).
    case settings
    /// A stream taken back before it was answered (CVE-2023-44487 Rapid Reset, CVE-2019-9514).
    case earlyReset
    /// A stream that we had to reset for the peer's mistake (CVE-2025-8671 MadeYouReset).
    case provokedReset
    /// A stream over the announced limit.
    case refusedStream
    /// DATA without a byte and without an end (CVE-2019-9518).
    case emptyData
    /// PRIORITY, frames of unknown type (CVE-2019-9513), and informational responses.
    case ignoredFrame
    /// WINDOW_UPDATE (CVE-2019-9511: a window opened byte by byte).
    case windowUpdate
    /// Frames on a stream that is closed.
    case closedStream
}

/// How often a peer may do one thing: a burst, and what is forgiven each second.
public struct GlitchRate: Hashable, Sendable {
    /// Times in a row; at least 1.
    public var burst: Int32
    /// Times a second that are forgiven.
    public var perSecond: Int32

    public init(burst: Int32, perSecond: Int32) {
        self.burst = burst
        self.perSecond = perSecond
    }
}

/// The rates of every glitch.
///
/// Honest work earns credit beyond them (a DATA frame pays for the PINGs and WINDOW_UPDATEs that it causes; an answered
/// stream for one that is not), so the rates need to cover only what comes without work: keep-alives, a client's
/// greeting, connections that their applications abort.
public struct GlitchRates: Hashable, Sendable {
    public var ping = GlitchRate(burst: 200, perSecond: 10)
    public var settings = GlitchRate(burst: 64, perSecond: 1)
    public var earlyReset = GlitchRate(burst: 1_000, perSecond: 200)
    public var provokedReset = GlitchRate(burst: 100, perSecond: 1)
    public var refusedStream = GlitchRate(burst: 1_000, perSecond: 100)
    public var emptyData = GlitchRate(burst: 100, perSecond: 10)
    public var ignoredFrame = GlitchRate(burst: 1_000, perSecond: 20)
    public var windowUpdate = GlitchRate(burst: 10_000, perSecond: 1_000)
    public var closedStream = GlitchRate(burst: 1_000, perSecond: 100)

    public init() {}

    subscript(glitch: Glitch) -> GlitchRate {
        switch glitch {
        case .ping: ping
        case .settings: settings
        case .earlyReset: earlyReset
        case .provokedReset: provokedReset
        case .refusedStream: refusedStream
        case .emptyData: emptyData
        case .ignoredFrame: ignoredFrame
        case .windowUpdate: windowUpdate
        case .closedStream: closedStream
        }
    }
}

/// What is left of one glitch's rate: a token bucket that time and honest work refill.
struct GlitchBudget {
    private let rate: GlitchRate
    private var left: Int32
    private var refilledAt: Int64 = 0
    /// How often it happened, forgiven or not.
    private(set) var total: UInt64 = 0

    init(_ rate: GlitchRate) {
        self.rate = rate
        left = rate.burst
    }

    /// Takes one away.
    ///
    /// - Parameter now: seconds of a monotonic clock.
    /// - Returns: false when the budget was already used up.
    mutating func charge(now: Int64) -> Bool {
        total &+= 1
        if now > refilledAt {
            earn(Int64(rate.perSecond).multipliedClamped(by: now - refilledAt))
            refilledAt = now
        }
        guard left > 0 else { return false }
        left -= 1
        return true
    }

    /// Gives credit for honest work, never beyond the burst.
    @inline(__always)
    mutating func earn(_ count: Int64) {
        left = Int32(truncatingIfNeeded: min(Int64(rate.burst), Int64(left) + min(count, Int64(rate.burst))))
    }
}

extension Int64 {
    fileprivate func multipliedClamped(by other: Int64) -> Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
