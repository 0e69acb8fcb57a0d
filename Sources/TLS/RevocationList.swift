import COpenSSL

/// Certificates that their issuers have taken back (CRLs, RFC 5280 §5).
///
/// As ztunnel does: the whole chain is checked; an issuer without a list revokes nothing; a list whose nextUpdate has
/// passed still revokes what it names, for forgetting a revocation would be worse than an old list.
public struct RevocationList: Sendable {
    private let lists: [Handle]
    /// The exact encodings, in order: what distinguishes one version of the lists from the next.
    let encodings: [[UInt8]]

    /// Nothing is revoked.
    public static let empty = RevocationList()

    private init() {
        lists = []
        encodings = []
    }

    /// Reads every list of a text; other blocks are passed over.
    public init(pem: String) throws(TLSError) {
        var encodings: [[UInt8]] = []
        for block in try PEM.blocks(in: pem) where block.label == "X509 CRL" { encodings.append(block.der) }
        try self.init(der: encodings)
    }

    public init(der encodings: [[UInt8]]) throws(TLSError) {
        var lists: [Handle] = []
        for der in encodings { lists.append(try Handle(der: der)) }
        self.lists = lists
        self.encodings = encodings
    }

    public var isEmpty: Bool { lists.isEmpty }

    /// The serial of the first certificate of a verified chain (leaf first, root last) that its issuer has revoked.
    public func revokedSerial(in chain: [Certificate]) -> String? {
        guard !lists.isEmpty else { return nil }
        for (certificate, issuer) in zip(chain, chain.dropFirst())
        where lists.contains(where: { $0.revokes(certificate, issuer: issuer) }) {
            return certificate.serial
        }
        return nil
    }

    /// Owns one `X509_CRL`.
    @safe
    private final class Handle: @unchecked Sendable {
        // @unchecked: read-only after its making; libcrypto locks what it caches inside.
        private let pointer: OpaquePointer

        init(der: [UInt8]) throws(TLSError) {
            ErrorQueue.clear()
            var made = unsafe X509_CRL_new_ex(Library.shared.context, nil)
            guard unsafe made != nil else { throw .library(ErrorQueue.take()) }
            let isRead = unsafe der.withUnsafeBytes { bytes in
                var cursor = unsafe bytes.bindMemory(to: UInt8.self).baseAddress
                return unsafe d2i_X509_CRL(&made, &cursor, bytes.count) != nil
            }
            guard isRead, let list = unsafe made else {
                throw .malformed("revocation list", reason: ErrorQueue.take())
            }
            unsafe pointer = list
        }

        deinit { unsafe X509_CRL_free(pointer) }

        func revokes(_ certificate: Certificate, issuer: Certificate) -> Bool {
            let name = unsafe X509_get_issuer_name(certificate.handle.pointer)
            guard unsafe X509_NAME_cmp(X509_CRL_get_issuer(pointer), name) == 0 else { return false }
            var entry: OpaquePointer? = nil
            // 2 is an entry that takes a revocation back (removeFromCRL).
            guard unsafe X509_CRL_get0_by_cert(pointer, &entry, certificate.handle.pointer) == 1 else {
                return false
            }
            defer { ErrorQueue.clear() }
            return unsafe X509_CRL_verify(pointer, X509_get0_pubkey(issuer.handle.pointer)) == 1
        }
    }
}
