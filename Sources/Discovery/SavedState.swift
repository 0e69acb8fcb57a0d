import Mesh
import Protobuf
import Wire

/// What a node keeps over a restart, as bytes: what it has discovered and its certificates.
///
/// It holds private keys. The file it goes to is the daemon's alone (0600) and lies on a tmpfs, never on a disk.
public struct SavedState: Sendable {
    /// A certificate with its key, all PEM.
    public struct Certificate: Equatable, Sendable {
        public var subject: CertificateSubject
        public var privateKey: String
        /// Leaf, then intermediates.
        public var chain: String
        public var roots: String

        public init(subject: CertificateSubject, privateKey: String, chain: String, roots: String) {
            self.subject = subject
            self.privateKey = privateKey
            self.chain = chain
            self.roots = roots
        }
    }

    /// Changes with what `Mesh` models can say: what an older version could not keep must be sent anew.
    private static let format: UInt32 = 1

    public var discovered: DiscoveredState
    public var certificates: [Certificate]
    /// Seconds since 1970.
    public var savedAt: Int64

    public init(discovered: DiscoveredState, certificates: [Certificate], savedAt: Int64) {
        self.discovered = discovered
        self.certificates = certificates
        self.savedAt = savedAt
    }

    public func encoded() -> [UInt8] {
        var wire = Warren_V1_SavedState()
        wire.format = Self.format
        wire.node = discovered.node
        wire.savedAt = savedAt
        wire.types = discovered.saved()
        wire.certificates = certificates.map { certificate in
            var saved = Warren_V1_SavedState.Certificate()
            if case .workload(let identity) = certificate.subject { saved.identity = identity.uri }
            saved.privateKey = certificate.privateKey
            saved.chain = certificate.chain
            saved.roots = certificate.roots
            return saved
        }
        return wire.serializedBytes()
    }

    /// - Throws: when the bytes are of another node or version, or damaged in any part.
    public init(decoding bytes: [UInt8], node: String) throws(WireError) {
        let wire: Warren_V1_SavedState
        do throws(BinaryDecodingError) {
            wire = try Warren_V1_SavedState(serializedBytes: bytes)
        } catch {
            throw WireError("", "no saved state: \(error)")
        }
        guard wire.format == Self.format else {
            throw WireError("format", "\(wire.format), expected \(Self.format)")
        }
        guard wire.node == node else { throw WireError("node", "\"\(wire.node)\", expected \"\(node)\"") }
        var certificates: [Certificate] = []
        for saved in wire.certificates {
            var subject = CertificateSubject.node
            if !saved.identity.isEmpty {
                guard let identity = Identity(spiffe: saved.identity) else {
                    throw WireError("certificates.identity", "\"\(saved.identity)\" is no SPIFFE id")
                }
                subject = .workload(identity)
            }
            certificates.append(
                Certificate(
                    subject: subject, privateKey: saved.privateKey, chain: saved.chain, roots: saved.roots))
        }
        self.init(
            discovered: try DiscoveredState(node: node, saved: wire.types), certificates: certificates,
            savedAt: wire.savedAt)
    }
}
