import COpenSSL

/// What the contexts of one loop share: chains already verified, and memory for output. Bound to that loop.
public final class TLSWorkspace {
    var chains: VerifiedChains
    let memory: CipherMemory

    /// - Parameters:
    ///   - chains: verified chains kept, a few KiB each.
    ///   - memory: bytes of free output blocks kept.
    public init(chains: Int = 1024, memory: Int = 2 << 20) {
        self.chains = VerifiedChains(capacity: chains)
        self.memory = CipherMemory(keptLimit: memory)
    }

    /// Handshakes whose chain needed no verification.
    public var verifiedChainHits: Int { chains.hits }
    /// Chains kept.
    public var verifiedChainCount: Int { chains.count }
}

/// A configuration made ready for sessions (`SSL_CTX`). Bound to one loop, for libssl's own locks cost 20 % of a
/// handshake when threads share one. A new certificate or root is a new context; sessions keep the one they began with.
@safe
public final class TLSContext {
    public let configuration: TLSConfiguration
    let workspace: TLSWorkspace
    let pointer: OpaquePointer
    /// Role, roots and revocation lists: what a verified chain is good for.
    let trust: [UInt8]
    /// ALPN's wire form, in memory that libssl may point into.
    private let protocols: UnsafeMutableBufferPointer<UInt8>

    /// - Throws: `malformed` when the key, chain or roots do not serve; `library`.
    public init(_ configuration: TLSConfiguration, workspace: TLSWorkspace = TLSWorkspace()) throws(TLSError)
    {
        guard !configuration.isServer || configuration.bundle != nil else {
            throw .malformed("TLS configuration", reason: "a server needs a certificate")
        }
        let wire = try Self.wireForm(configuration.applicationProtocols)
        trust = try Self.fingerprint(configuration)
        ErrorQueue.clear()
        let method = unsafe configuration.isServer ? TLS_server_method() : TLS_client_method()
        guard let pointer = unsafe SSL_CTX_new_ex(Library.shared.context, nil, method) else {
            throw .library(ErrorQueue.take())
        }
        self.configuration = configuration
        self.workspace = workspace
        unsafe self.pointer = unsafe pointer
        unsafe protocols = .allocate(capacity: wire.count)
        _ = unsafe protocols.initialize(fromContentsOf: wire)
        try setParameters()
        try setTrust()
        if let bundle = configuration.bundle { try setBundle(bundle) }
        try setProtocols()
    }

    deinit {
        unsafe SSL_CTX_free(pointer)
        unsafe protocols.deallocate()
    }

    private func setParameters() throws(TLSError) {
        let suites =
            configuration.isServer
            ? "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
            : "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
        guard unsafe copenssl_context_set_versions(pointer, TLS1_3_VERSION, TLS1_3_VERSION) == 1,
            unsafe SSL_CTX_set_ciphersuites(pointer, suites) == 1,
            unsafe copenssl_context_set_groups(pointer, "X25519:P-256:P-384") == 1,
            unsafe SSL_CTX_set_num_tickets(pointer, 0) == 1
        else { throw .library(ErrorQueue.take()) }
        unsafe SSL_CTX_set_security_level(pointer, 2)
        // NO_AUTO_CHAIN: else each side verifies its own chain in every handshake, and sends the root.
        unsafe copenssl_context_set_mode(pointer, Int(SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS))
        unsafe copenssl_context_set_options(pointer)
        unsafe copenssl_context_forget_sessions(pointer)
        unsafe copenssl_context_set_max_chain_bytes(pointer, 64 << 10)
    }

    private func setTrust() throws(TLSError) {
        let store = unsafe SSL_CTX_get_cert_store(pointer)
        for root in configuration.roots where unsafe X509_STORE_add_cert(store, root.handle.pointer) != 1 {
            throw .malformed("root certificate \(root.subject)", reason: ErrorQueue.take())
        }
        // A root is whatever the operator calls one, self-signed or not.
        unsafe _ = X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST))
        let mode =
            switch configuration.verification {
            case .clientIdentity: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
            case .optionalClient, .expectedIdentity, .serverName: SSL_VERIFY_PEER
            }
        unsafe SSL_CTX_set_verify(pointer, mode, nil)
        unsafe SSL_CTX_set_verify_depth(pointer, Int32(CertificateBundle.maximumLength))
        unsafe SSL_CTX_set_cert_verify_callback(pointer, verifyPeer, nil)
    }

    private func setBundle(_ bundle: CertificateBundle) throws(TLSError) {
        guard let intermediates = unsafe OPENSSL_sk_new_null() else { throw .library(ErrorQueue.take()) }
        defer { unsafe OPENSSL_sk_free(intermediates) }
        for certificate in bundle.chain.dropFirst() {
            unsafe _ = OPENSSL_sk_push(intermediates, UnsafeRawPointer(certificate.handle.pointer))
        }
        let isTaken = unsafe SSL_CTX_use_cert_and_key(
            pointer, bundle.leaf.handle.pointer, bundle.key.handle.pointer, intermediates, 1)
        guard isTaken == 1 else {
            throw .malformed("certificate \(bundle.leaf.subject)", reason: ErrorQueue.take())
        }
    }

    private func setProtocols() throws(TLSError) {
        guard unsafe !protocols.isEmpty else { return }
        if configuration.isServer {
            let context = unsafe Unmanaged.passUnretained(self).toOpaque()
            unsafe SSL_CTX_set_alpn_select_cb(pointer, selectProtocol, context)
        } else if unsafe SSL_CTX_set_alpn_protos(pointer, protocols.baseAddress, UInt32(protocols.count)) != 0
        {
            throw .library(ErrorQueue.take())
        }
    }

    /// Takes the first of our protocols that the client offers.
    fileprivate func select(
        _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ chosenCount: UnsafeMutablePointer<UInt8>?,
        from offered: UnsafePointer<UInt8>?, _ offeredCount: UInt32
    ) -> Int32 {
        var found: UnsafeMutablePointer<UInt8>? = nil
        let outcome = unsafe SSL_select_next_proto(
            &found, chosenCount, protocols.baseAddress, UInt32(protocols.count), offered, offeredCount)
        unsafe chosen?.pointee = unsafe UnsafePointer(found)
        return outcome == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL
    }

    /// RFC 7301 §3.1: each name behind its length.
    private static func wireForm(_ names: [String]) throws(TLSError) -> [UInt8] {
        var wire: [UInt8] = []
        for name in names {
            guard let count = UInt8(exactly: name.utf8.count), count > 0 else {
                throw .malformed("application protocol \(name)", reason: "a name has 1 to 255 bytes")
            }
            wire.append(count)
            wire.append(contentsOf: name.utf8)
        }
        return wire
    }

    private static func fingerprint(_ configuration: TLSConfiguration) throws(TLSError) -> [UInt8] {
        var text: [UInt8] = [configuration.isServer ? 1 : 0]
        for encoding in configuration.roots.map(\.der) + [[]] + configuration.revocations.encodings {
            unsafe withUnsafeBytes(of: encoding.count) { unsafe text.append(contentsOf: $0) }
            text.append(contentsOf: encoding)
        }
        return try Library.shared.digest(.sha256, of: text)
    }
}

private let selectProtocol:
    @convention(c) (
        OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, UnsafeMutablePointer<UInt8>?,
        UnsafePointer<UInt8>?, UInt32, UnsafeMutableRawPointer?
    ) -> Int32 = { _, chosen, chosenCount, offered, offeredCount, argument in
        guard let argument = unsafe argument else { return SSL_TLSEXT_ERR_ALERT_FATAL }
        // Alive: the session whose handshake this is holds it.
        let context = unsafe Unmanaged<TLSContext>.fromOpaque(argument).takeUnretainedValue()
        return unsafe context.select(chosen, chosenCount, from: offered, offeredCount)
    }
