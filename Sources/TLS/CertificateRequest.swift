import COpenSSL

/// A certification request (PKCS#10, RFC 2986) that proves possession of its key.
///
/// Nothing that it asks for is believed: what a certificate says is what its caller is entitled to. So only the key
/// is kept, and the URI for the log.
public struct CertificateRequest: Sendable {
    public let publicKey: PublicKey
    public let der: [UInt8]

    static let maximumByteCount = 16 << 10

    /// Makes a request with an empty subject and one URI name, critical for that reason (RFC 5280 §4.2.1.6).
    ///
    /// - Parameter uri: the SPIFFE ID that the key is meant for.
    public static func make(key: PrivateKey, uri: String) throws(TLSError) -> CertificateRequest {
        ErrorQueue.clear()
        guard let request = unsafe X509_REQ_new_ex(Library.shared.context, nil) else {
            throw .library(ErrorQueue.take())
        }
        defer { unsafe X509_REQ_free(request) }
        var extensions: OpaquePointer? = nil
        defer { unsafe OPENSSL_sk_pop_free(extensions, freeExtension) }
        let names = try SubjectNames.make(uri: uri, hosts: [])
        let isAdded = unsafe X509V3_add1_i2d(
            &extensions, NID_subject_alt_name, UnsafeMutableRawPointer(names.stack), 1, 0)
        guard isAdded == 1, unsafe X509_REQ_set_version(request, 0) == 1,
            unsafe X509_REQ_set_pubkey(request, key.handle.pointer) == 1,
            unsafe X509_REQ_add_extensions(request, extensions) == 1,
            unsafe X509_REQ_sign(request, key.handle.pointer, signatureDigest(key.publicKey)) > 0
        else { throw .library(ErrorQueue.take()) }
        let der = try unsafe encoded { unsafe i2d_X509_REQ(request, $0) }
        return CertificateRequest(publicKey: key.publicKey, der: der)
    }

    /// Reads a request and verifies that its sender holds the key.
    ///
    /// - Throws: `malformed` when it is too long, not one whole request, signed by another key, or of a kind of key
    ///   that is not certified (P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits are).
    public init(pem: String) throws(TLSError) {
        guard pem.utf8.count <= 2 * Self.maximumByteCount else {
            throw .malformed("certificate request", reason: "longer than \(Self.maximumByteCount) bytes")
        }
        let blocks = try PEM.blocks(in: pem)
        guard blocks.count == 1, let block = blocks.first,
            block.label == "CERTIFICATE REQUEST" || block.label == "NEW CERTIFICATE REQUEST"
        else { throw .malformed("certificate request", reason: "the text does not hold exactly one") }
        try self.init(der: block.der)
    }

    /// See `init(pem:)`.
    public init(der: [UInt8]) throws(TLSError) {
        guard der.count <= Self.maximumByteCount else {
            throw .malformed("certificate request", reason: "longer than \(Self.maximumByteCount) bytes")
        }
        ErrorQueue.clear()
        var made = unsafe X509_REQ_new_ex(Library.shared.context, nil)
        guard unsafe made != nil else { throw .library(ErrorQueue.take()) }
        defer { unsafe X509_REQ_free(made) }
        let isWhole = unsafe der.withUnsafeBytes { bytes in
            let start = unsafe bytes.bindMemory(to: UInt8.self).baseAddress
            var cursor = unsafe start
            guard unsafe d2i_X509_REQ(&made, &cursor, bytes.count) != nil, let start = unsafe start else {
                return false
            }
            return unsafe cursor == start + bytes.count
        }
        guard isWhole, let request = unsafe made else {
            throw .malformed("certificate request", reason: ErrorQueue.take())
        }
        publicKey = try unsafe Self.publicKey(of: request)
        // Before the signature: a key out of bounds could make its verification dear.
        try publicKey.requireCertifiable()
        guard unsafe X509_REQ_verify_ex(request, publicKey.handle.pointer, Library.shared.context, nil) == 1
        else {
            ErrorQueue.clear()
            throw .malformed("certificate request", reason: "it is not signed by its own key")
        }
        self.der = der
    }

    /// Decoded anew: a request's own decoding of its key looks in libcrypto's default context.
    private static func publicKey(of request: OpaquePointer) throws(TLSError) -> PublicKey {
        let der = try unsafe encoded { unsafe i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request), $0) }
        let key = unsafe der.withUnsafeBytes { bytes in
            var cursor = unsafe bytes.bindMemory(to: UInt8.self).baseAddress
            return unsafe d2i_PUBKEY_ex(nil, &cursor, bytes.count, Library.shared.context, nil)
        }
        guard let key = unsafe key else {
            throw .malformed("certificate request", reason: "its key cannot be read: \(ErrorQueue.take())")
        }
        return unsafe PublicKey(handle: KeyHandle(owning: key))
    }

    private init(publicKey: PublicKey, der: [UInt8]) {
        self.publicKey = publicKey
        self.der = der
    }

    public var pem: String { PEM.encode("CERTIFICATE REQUEST", der) }
}

private let freeExtension: @convention(c) (UnsafeMutableRawPointer?) -> Void = { pointer in
    unsafe X509_EXTENSION_free(OpaquePointer(pointer))
}

/// SHA-256, but for Ed25519, which hashes by itself.
func signatureDigest(_ key: PublicKey) -> OpaquePointer? {
    unsafe EVP_PKEY_get_base_id(key.handle.pointer) == EVP_PKEY_ED25519 ? nil : EVP_sha256()
}

/// A subjectAltName under construction: one URI at most, and hosts. Built name by name, so that nothing in a name
/// can be taken for configuration syntax.
@safe
struct SubjectNames: ~Copyable {
    let stack: OpaquePointer

    /// - Parameter hosts: DNS names or IP addresses.
    static func make(uri: String?, hosts: [String]) throws(TLSError) -> SubjectNames {
        guard let stack = unsafe GENERAL_NAMES_new() else { throw .library(ErrorQueue.take()) }
        let names = unsafe SubjectNames(owning: stack)
        if let uri { try names.append(GEN_URI, uri) }
        for host in hosts { try names.append(host) }
        return names
    }

    private init(owning stack: OpaquePointer) { unsafe self.stack = unsafe stack }

    deinit { unsafe GENERAL_NAMES_free(stack) }

    private borrowing func append(_ host: String) throws(TLSError) {
        guard let address = unsafe a2i_IPADDRESS(host) else {
            ErrorQueue.clear()
            return try append(GEN_DNS, host)
        }
        try unsafe append(GEN_IPADD, owning: address)
    }

    private borrowing func append(_ kind: Int32, _ text: String) throws(TLSError) {
        let bytes = Array(text.utf8)
        guard !bytes.isEmpty, bytes.count <= 2048, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw .malformed("subject name", reason: "\(text) is not printable ASCII of 1 to 2048 characters")
        }
        guard let value = unsafe ASN1_STRING_type_new(V_ASN1_IA5STRING) else {
            throw .library(ErrorQueue.take())
        }
        guard unsafe ASN1_STRING_set(value, bytes, Int32(bytes.count)) == 1 else {
            unsafe ASN1_STRING_free(value)
            throw .library(ErrorQueue.take())
        }
        try unsafe append(kind, owning: value)
    }

    private borrowing func append(_ kind: Int32, owning value: UnsafeMutablePointer<ASN1_STRING>)
        throws(TLSError)
    {
        guard let name = unsafe GENERAL_NAME_new() else {
            unsafe ASN1_STRING_free(value)
            throw .library(ErrorQueue.take())
        }
        unsafe GENERAL_NAME_set0_value(name, kind, value)
        guard unsafe OPENSSL_sk_push(stack, name) > 0 else {
            unsafe GENERAL_NAME_free(name)
            throw .library(ErrorQueue.take())
        }
    }
}
