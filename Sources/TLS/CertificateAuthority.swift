import COpenSSL
import Glibc

/// A key that certifies others: a root of our own, or an intermediate that was plugged in.
public struct CertificateAuthority: Sendable {
    public let key: PrivateKey
    /// The signing certificate first, then what certifies it, without the root.
    public let chain: [Certificate]
    /// What those who trust this authority have to trust.
    public let roots: [Certificate]

    /// The certificate whose key signs.
    public var certificate: Certificate { signer }
    private let signer: Certificate

    /// How far before its making a certificate begins, so that peers whose clocks are behind accept it at once.
    public static let backdating: UnixTime = 120

    /// A new self-signed root.
    ///
    /// - Parameters:
    ///   - organization: the subject's O, by custom the trust domain; 1 to 64 characters.
    ///   - validity: seconds; ten years unless told.
    public static func createRoot(
        organization: String, validity: UnixTime = 10 * 365 * 86_400, now: UnixTime = .now
    ) throws(TLSError) -> CertificateAuthority {
        let key = try PrivateKey.generate()
        let draft = try CertificateDraft.make(
            publicKey: key.publicKey, notBefore: now - backdating, notAfter: now + validity,
            organization: organization)
        try draft.add(NID_basic_constraints, "critical,CA:TRUE")
        try draft.add(NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature")
        try draft.addKeyIdentifier()
        let root = try draft.signed(by: key, issuer: nil)
        return try CertificateAuthority(key: key, chain: [root], roots: [root])
    }

    /// Takes up an authority made earlier or elsewhere.
    ///
    /// - Parameters:
    ///   - chain: the signing certificate first; roots in it are taken out.
    ///   - roots: what its certificates will be verified against.
    /// - Throws: `malformed` when the key is not the first certificate's, that one may not sign, or no root is given.
    public init(key: PrivateKey, chain: [Certificate], roots: [Certificate]) throws(TLSError) {
        guard let signer = chain.first else { throw .malformed("authority", reason: "it has no certificate") }
        guard signer.isAuthority else {
            throw .malformed("authority", reason: "\(signer.subject) is not a CA certificate")
        }
        guard signer.publicKey == key.publicKey else {
            throw .malformed("authority", reason: "the key is not that of \(signer.subject)")
        }
        guard !roots.isEmpty else { throw .malformed("authority", reason: "no root is given") }
        self.key = key
        self.signer = signer
        self.chain = chain.filter { !$0.isSelfIssued }
        self.roots = roots
    }

    public enum Usage: Sendable { case serverAuth, clientAuth }

    /// Certifies a key.
    ///
    /// - Parameters:
    ///   - uri: its SPIFFE ID; the subject stays empty and the name is critical.
    ///   - hosts: DNS names and IP addresses of a server that is reached by name.
    ///   - validity: seconds from now; cut where the authority's own certificate ends.
    public func sign(
        _ publicKey: PublicKey, uri: String?, hosts: [String] = [], validity: UnixTime,
        usages: Set<Usage> = [.serverAuth, .clientAuth], now: UnixTime = .now
    ) throws(TLSError) -> Certificate {
        guard uri != nil || !hosts.isEmpty else {
            throw .malformed("certificate", reason: "it would name nobody")
        }
        guard !usages.isEmpty else { throw .malformed("certificate", reason: "it would be of no use") }
        let (end, isTooLong) = now.addingReportingOverflow(validity)
        let draft = try CertificateDraft.make(
            publicKey: publicKey, notBefore: max(now - Self.backdating, signer.notBefore),
            notAfter: isTooLong ? signer.notAfter : min(end, signer.notAfter), organization: nil)
        try draft.add(NID_basic_constraints, "critical,CA:FALSE")
        try draft.add(NID_key_usage, "critical,digitalSignature")
        let names = [(Usage.serverAuth, "serverAuth"), (.clientAuth, "clientAuth")]
        try draft.add(
            NID_ext_key_usage, names.filter { usages.contains($0.0) }.map(\.1).joined(separator: ","))
        // An intermediate that was made elsewhere may have no identifier to refer to.
        if unsafe X509_get0_subject_key_id(signer.handle.pointer) != nil {
            try draft.add(NID_authority_key_identifier, "keyid", issuer: signer)
        }
        try draft.add(SubjectNames.make(uri: uri, hosts: hosts))
        return try draft.signed(by: key, issuer: signer)
    }

    /// What the owner of `certificate` has to send: it and what leads to the root.
    public func chain(for certificate: Certificate) -> [Certificate] { [certificate] + chain }
}

/// An `X509` under construction.
@safe
private struct CertificateDraft: ~Copyable {
    private let pointer: OpaquePointer

    static func make(
        publicKey: PublicKey, notBefore: UnixTime, notAfter: UnixTime, organization: String?
    ) throws(TLSError) -> CertificateDraft {
        guard notBefore < notAfter else {
            throw .malformed("certificate", reason: "it would end before it begins")
        }
        ErrorQueue.clear()
        guard let pointer = unsafe X509_new_ex(Library.shared.context, nil) else {
            throw .library(ErrorQueue.take())
        }
        let draft = unsafe CertificateDraft(owning: pointer)
        // Version 3 is written as 2 (RFC 5280 §4.1.2.1).
        guard unsafe X509_set_version(pointer, 2) == 1,
            unsafe X509_set_pubkey(pointer, publicKey.handle.pointer) == 1,
            unsafe ASN1_TIME_set(X509_getm_notBefore(pointer), time_t(notBefore)) != nil,
            unsafe ASN1_TIME_set(X509_getm_notAfter(pointer), time_t(notAfter)) != nil
        else { throw .library(ErrorQueue.take()) }
        try draft.setSerial()
        if let organization { try draft.setOrganization(organization) }
        return draft
    }

    private init(owning pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }

    deinit { unsafe X509_free(pointer) }

    /// 126 random bits behind a leading one: positive and never zero (RFC 5280 §4.1.2.2).
    private borrowing func setSerial() throws(TLSError) {
        var bytes = [UInt8](repeating: 0, count: 16)
        guard unsafe RAND_bytes_ex(Library.shared.context, &bytes, bytes.count, 0) == 1 else {
            throw .library(ErrorQueue.take())
        }
        bytes[0] = bytes[0] & 0x7f | 0x40
        guard let number = unsafe BN_bin2bn(bytes, Int32(bytes.count), nil) else {
            throw .library(ErrorQueue.take())
        }
        defer { unsafe BN_free(number) }
        guard unsafe BN_to_ASN1_INTEGER(number, X509_get_serialNumber(pointer)) != nil else {
            throw .library(ErrorQueue.take())
        }
    }

    private borrowing func setOrganization(_ organization: String) throws(TLSError) {
        let bytes = Array(organization.utf8)
        let name = unsafe X509_get_subject_name(pointer)
        guard
            unsafe X509_NAME_add_entry_by_txt(
                name, "O", MBSTRING_UTF8, bytes, Int32(clamping: bytes.count), -1, 0) == 1
        else { throw .malformed("organization \(organization)", reason: ErrorQueue.take()) }
    }

    /// An extension whose value is a constant of ours in libcrypto's notation (x509v3_config(5)).
    borrowing func add(_ kind: Int32, _ value: String, issuer: Certificate? = nil) throws(TLSError) {
        var context = unsafe X509V3_CTX()
        unsafe X509V3_set_ctx(&context, issuer?.handle.pointer ?? pointer, pointer, nil, nil, 0)
        guard let made = unsafe X509V3_EXT_conf_nid(nil, &context, kind, value) else {
            throw .library(ErrorQueue.take())
        }
        defer { unsafe X509_EXTENSION_free(made) }
        guard unsafe X509_add_ext(pointer, made, -1) == 1 else { throw .library(ErrorQueue.take()) }
    }

    /// The SHA-1 digest of the key's bits, a name and no proof (RFC 5280 §4.2.1.2, method 1). libcrypto's own "hash"
    /// would look for SHA-1 in its default context.
    borrowing func addKeyIdentifier() throws(TLSError) {
        guard let bits = unsafe X509_get0_pubkey_bitstr(pointer), let name = unsafe ASN1_OCTET_STRING_new()
        else {
            throw .library(ErrorQueue.take())
        }
        defer { unsafe ASN1_OCTET_STRING_free(name) }
        let count = max(0, unsafe ASN1_STRING_length(bits))
        let key = unsafe Array(UnsafeBufferPointer(start: ASN1_STRING_get0_data(bits), count: Int(count)))
        let digest = try Library.shared.digest(.sha1, of: key)
        guard unsafe ASN1_OCTET_STRING_set(name, digest, Int32(digest.count)) == 1,
            unsafe X509_add1_ext_i2d(pointer, NID_subject_key_identifier, name, 0, 0) == 1
        else { throw .library(ErrorQueue.take()) }
    }

    /// The names, critical because the subject is empty (RFC 5280 §4.2.1.6).
    borrowing func add(_ names: consuming SubjectNames) throws(TLSError) {
        let isAdded = unsafe X509_add1_ext_i2d(
            pointer, NID_subject_alt_name, UnsafeMutableRawPointer(names.stack), 1, 0)
        guard isAdded == 1 else { throw .library(ErrorQueue.take()) }
    }

    /// - Parameter issuer: nil for a certificate that signs itself.
    borrowing func signed(by key: PrivateKey, issuer: Certificate?) throws(TLSError) -> Certificate {
        let name = unsafe X509_get_subject_name(issuer?.handle.pointer ?? pointer)
        guard unsafe X509_set_issuer_name(pointer, name) == 1,
            unsafe X509_sign(pointer, key.handle.pointer, signatureDigest(key.publicKey)) > 0
        else { throw .library(ErrorQueue.take()) }
        let der = try unsafe encoded { unsafe i2d_X509(pointer, $0) }
        // Decoded anew: what is handed out is what a peer will read.
        return try Certificate(der: der)
    }
}
