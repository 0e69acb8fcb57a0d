import COpenSSL
import Mesh

/// libssl's question whether a peer's chain is good, answered by our rules instead of its own.
let verifyPeer: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> Int32 = { store, _ in
    guard let store = unsafe store,
        let ssl = unsafe X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
        let session = unsafe TLSSession.of(OpaquePointer(ssl))
    else { return 0 }
    return unsafe session.verifyPeer(PeerVerification(store: store, context: session.context)) ? 1 : 0
}

/// One verification of one peer.
///
/// In this order: the chain leads to a root, for the peer's role, inside its validity (libcrypto, RFC 5280 §6); none
/// of it is revoked; the leaf is no authority (X.509-SVID §5.2); it proves the identity or name that was asked for.
@safe
struct PeerVerification {
    private let store: OpaquePointer
    private let context: TLSContext

    init(store: OpaquePointer, context: TLSContext) {
        unsafe self.store = unsafe store
        self.context = context
    }

    /// - Parameters:
    ///   - expected: SPIFFE URIs of which the server must prove one.
    ///   - serverName: for the error; the check itself is libcrypto's.
    func run(expecting expected: Set<String>, serverName: String?) throws(TLSError) -> PeerCertificate {
        let peer = try verifiedChain(serverName: serverName)
        switch context.configuration.verification {
        case .clientIdentity(let trustDomains):
            guard let identity = peer.identity else { throw .noSPIFFEIdentity(uris: peer.uris) }
            guard trustDomains.contains(identity.trustDomain) else {
                throw .wrongTrustDomain(got: identity.trustDomain, expected: trustDomains.sorted())
            }
        case .expectedIdentity:
            guard peer.identity != nil, let uri = peer.uris.first else {
                throw .noSPIFFEIdentity(uris: peer.uris)
            }
            guard expected.contains(uri) else {
                throw .unexpectedIdentity(got: uri, expected: expected.sorted())
            }
        case .optionalClient, .serverName: break
        }
        return peer
    }

    private func verifiedChain(serverName: String?) throws(TLSError) -> PeerCertificate {
        // A server name is part of libcrypto's verification and not of the key; such connections are few.
        guard serverName == nil else { return try verify(serverName: serverName) }
        let key = try cacheKey()
        if let peer = context.workspace.chains.find(key, now: .now) {
            unsafe X509_STORE_CTX_set_error(store, X509_V_OK)
            return peer
        }
        let peer = try verify(serverName: nil)
        context.workspace.chains.insert(key, peer)
        return peer
    }

    private func verify(serverName: String?) throws(TLSError) -> PeerCertificate {
        ErrorQueue.clear()
        guard unsafe X509_verify_cert(store) == 1 else {
            let error = failure(serverName: serverName)
            ErrorQueue.clear()
            throw error
        }
        let chain = try unsafe certificates(X509_STORE_CTX_get0_chain(store))
        if let leaf = chain.first, leaf.isAuthority {
            throw .untrusted("\(leaf.subject) is an authority, not a workload")
        }
        if let serial = context.configuration.revocations.revokedSerial(in: chain) {
            throw .revoked(serial: serial)
        }
        return try PeerCertificate(chain: chain)
    }

    /// Everything the peer sent, each certificate behind its length, under our role, roots and revocation lists.
    private func cacheKey() throws(TLSError) -> [UInt8] {
        var key = context.trust
        let sent = unsafe X509_STORE_CTX_get0_untrusted(store)
        let count = max(0, unsafe OPENSSL_sk_num(sent))
        guard count > 0 else { throw .noPeerCertificate }
        guard count <= CertificateBundle.maximumLength else {
            throw .untrusted("more than \(CertificateBundle.maximumLength) certificates were sent")
        }
        for index in 0..<count {
            let certificate = unsafe OpaquePointer(OPENSSL_sk_value(sent, index))
            let der = try unsafe encoded { unsafe i2d_X509(certificate, $0) }
            unsafe withUnsafeBytes(of: der.count) { unsafe key.append(contentsOf: $0) }
            key.append(contentsOf: der)
        }
        return key
    }

    private func certificates(_ stack: OpaquePointer?) throws(TLSError) -> [Certificate] {
        var certificates: [Certificate] = []
        for index in 0..<(unsafe max(0, OPENSSL_sk_num(stack))) {
            guard let value = unsafe OPENSSL_sk_value(stack, index) else { continue }
            let pointer = OpaquePointer(value)
            unsafe _ = X509_up_ref(pointer)
            certificates.append(try unsafe Certificate(owning: pointer))
        }
        return certificates
    }

    /// Makes libssl send the alert that fits.
    func refuse(_ error: TLSError) { unsafe X509_STORE_CTX_set_error(store, error.verificationCode) }

    private func failure(serverName: String?) -> TLSError {
        let code = unsafe X509_STORE_CTX_get_error(store)
        let subject: Certificate? =
            if let current = unsafe X509_STORE_CTX_get_current_cert(store), unsafe X509_up_ref(current) == 1 {
                try? unsafe Certificate(owning: current)
            } else {
                nil
            }
        switch code {
        case X509_V_ERR_CERT_HAS_EXPIRED: return .expired(notAfter: subject?.notAfter ?? .min)
        case X509_V_ERR_CERT_NOT_YET_VALID: return .notYetValid(notBefore: subject?.notBefore ?? .max)
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            return .wrongServerName(expected: serverName ?? "")
        default:
            let reason = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
            let name = subject.map { $0.subject.isEmpty ? $0.uriNames.first ?? $0.serial : $0.subject }
            return .untrusted(name.map { "\(reason) (\($0))" } ?? reason)
        }
    }
}

extension TLSError {
    /// The code of libcrypto that makes libssl send the fitting alert (RFC 8446 §6.2).
    var verificationCode: Int32 {
        switch self {
        case .expired: X509_V_ERR_CERT_HAS_EXPIRED
        case .notYetValid: X509_V_ERR_CERT_NOT_YET_VALID
        case .revoked: X509_V_ERR_CERT_REVOKED
        case .untrusted: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        default: X509_V_ERR_CERT_REJECTED
        }
    }
}
