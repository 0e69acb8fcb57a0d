import Linux
import Mesh

/// Whom a certificate is for.
public enum CertificateSubject: Hashable, Sendable {
    /// The node itself: the client certificate of its connections to the control component.
    case node
    case workload(Identity)
}

/// How urgent a certificate is; less is served first.
public enum CertificatePriority: Int, Comparable, Sendable, CaseIterable {
    /// A connection waits for it.
    case realTime
    /// A workload of this node will need it.
    case warmup
    /// One is there and shall be renewed.
    case background

    public static func < (a: CertificatePriority, b: CertificatePriority) -> Bool { a.rawValue < b.rawValue }
}

/// A certificate as the cache sees it: for how long it is good, and what it gives to those who ask.
public struct IssuedCertificate<Bundle: Sendable>: Sendable {
    /// Seconds since 1970.
    public let notBefore: Int64
    public let notAfter: Int64
    public let bundle: Bundle

    public init(notBefore: Int64, notAfter: Int64, bundle: Bundle) {
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.bundle = bundle
    }
}

/// Now, on both clocks: validity is a matter of the calendar, waiting is not.
public struct Moment: Sendable {
    public var monotonic: MonotonicTime
    /// Seconds since 1970.
    public var wall: Int64

    public init(monotonic: MonotonicTime, wall: Int64) {
        self.monotonic = monotonic
        self.wall = wall
    }

    public static func now() -> Moment { Moment(monotonic: .now(), wall: WallClock.now().seconds) }
}

/// Why there is no certificate.
public struct CertificateUnavailable: Error, Equatable, Sendable, CustomStringConvertible {
    public let reason: String

    public init(_ reason: String) {
        self.reason = reason
    }

    public var description: String { reason }
}
