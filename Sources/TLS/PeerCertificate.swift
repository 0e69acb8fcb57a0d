import Mesh

/// What a peer has proved: its certificate chains to one of the roots, and it holds the key.
public struct PeerCertificate: Sendable {
    /// Its workload identity; nil only where verification does not ask for one (by server name, or optional clients).
    public let identity: Identity?
    /// The URI names of the leaf.
    public let uris: [String]
    /// Lower-case hexadecimal.
    public let serial: String
    /// The moment, in seconds since the epoch, at which the first certificate of the chain ends.
    public let notAfter: UnixTime
    /// The verified chain, leaf first, root last: what a later revocation list is held against.
    public let chain: [Certificate]

    let notBefore: UnixTime

    init(chain: [Certificate]) throws(TLSError) {
        guard let leaf = chain.first else { throw .noPeerCertificate }
        identity = leaf.identity
        uris = leaf.uriNames
        serial = leaf.serial
        notBefore = chain.map(\.notBefore).max() ?? .max
        notAfter = chain.map(\.notAfter).min() ?? .min
        self.chain = chain
    }
}

/// Chains that were verified not long ago, so that a peer's next connection costs no signature checks (measured:
/// 0.82 of a handshake). The peer still has to prove its key in every handshake.
///
/// An entry is found only by the exact bytes of every certificate the peer sent, for the same role, under the same
/// roots and revocation lists, and inside the validity of its whole chain. Failures are not kept.
struct VerifiedChains {
    private var recent: [[UInt8]: PeerCertificate] = [:]
    private var older: [[UInt8]: PeerCertificate] = [:]
    private let capacity: Int
    private(set) var hits = 0

    /// - Parameter capacity: chains kept; at least half as many are kept of the most recently used.
    init(capacity: Int) { self.capacity = capacity }

    var count: Int { recent.count + older.count }

    mutating func find(_ key: [UInt8], now: UnixTime) -> PeerCertificate? {
        guard let peer = recent[key] ?? older[key] else { return nil }
        guard peer.notBefore <= now, now < peer.notAfter else {
            recent[key] = nil
            older[key] = nil
            return nil
        }
        hits &+= 1
        if recent[key] == nil {
            older[key] = nil
            insert(key, peer)
        }
        return peer
    }

    mutating func insert(_ key: [UInt8], _ peer: PeerCertificate) {
        // Two generations: what was not used while the newer one filled up is forgotten at once.
        if recent.count >= max(1, capacity / 2) {
            older = recent
            recent = [:]
        }
        recent[key] = peer
    }
}
