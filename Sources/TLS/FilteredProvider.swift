import COpenSSL

/// The built-in provider "warren": the default provider, less what makes it slow, and with a faster AES-GCM and
/// faster derivations.
///
/// The default provider is loaded into a context of its own. In the process-wide one, loading it by name ends the
/// automatic loading before it is there itself, and another thread's look-up in between finds nothing.
///
/// The tables are made once and never freed, for libcrypto keeps pointers into them.
@safe
struct FilteredProvider: @unchecked Sendable {
    // @unchecked: immutable after its making; the default provider locks itself.
    static let shared = FilteredProvider()

    let source: OpaquePointer?
    /// Whether the derivations of TLS 1.3 are ours, and tell their secrets: only in a context that has this provider.
    var tellsSecrets: Bool { unsafe Library.shared.context != nil }
    /// nil: libcrypto's own is passed on.
    let fastAES: FastAES?
    let dispatch: UnsafeMutablePointer<OSSL_DISPATCH>
    private let tables: [Int32: UnsafeMutablePointer<OSSL_ALGORITHM>]

    /// What is kept of an operation, by the first of an algorithm's names; an operation not listed is kept whole.
    ///
    /// Everything that is kept costs each handshake: to decode a certificate's key libcrypto walks all algorithms of all
    /// operations that the context has met, and asks each decoder whether it is of each kind of key.
    private static let kept: [Int32: Set<String>] = [
        OSSL_OP_DIGEST: ["SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512"],
        OSSL_OP_CIPHER: ["AES-128-GCM", "AES-256-GCM"],
        OSSL_OP_MAC: ["HMAC"],
        OSSL_OP_KDF: ["HKDF", "TLS13-KDF"],
        OSSL_OP_KEYMGMT: ["EC", "RSA", "RSA-PSS", "ED25519", "X25519"],
        OSSL_OP_KEYEXCH: ["ECDH", "X25519"],
        OSSL_OP_SIGNATURE: ["RSA", "ED25519", "ECDSA"],
        OSSL_OP_ENCODER: ["EC", "RSA", "ED25519"],
        // Without "DER": what finds out the kind of a key, and what decrypts one. Kinds are known here, and PEM is read by us.
        OSSL_OP_DECODER: ["EC", "RSA", "RSA-PSS", "ED25519"],
    ]

    private init() {
        unsafe source = OSSL_LIB_CTX_new().flatMap { unsafe OSSL_PROVIDER_load($0, "default") }
        fastAES = AES.settle()
        unsafe dispatch = .allocate(capacity: 3)
        unsafe dispatch[0] = OSSL_DISPATCH(
            function_id: OSSL_FUNC_PROVIDER_QUERY_OPERATION, function: unsafeBitCast(query, to: Untyped.self))
        unsafe dispatch[1] = OSSL_DISPATCH(
            function_id: OSSL_FUNC_PROVIDER_GET_CAPABILITIES,
            function: unsafeBitCast(capabilities, to: Untyped.self))
        unsafe dispatch[2] = OSSL_DISPATCH()
        var tables: [Int32: UnsafeMutablePointer<OSSL_ALGORITHM>] = unsafe [:]
        for operation in Self.kept.keys {
            unsafe tables[operation] = unsafe Self.table(source, operation, isFast: fastAES != nil)
        }
        unsafe self.tables = unsafe tables
    }

    /// - Parameter isFast: whether AES-GCM is ours.
    private static func table(
        _ source: OpaquePointer?, _ operation: Int32, isFast: Bool
    ) -> UnsafeMutablePointer<OSSL_ALGORITHM>? {
        var isVolatile: Int32 = 0
        guard let source = unsafe source,
            var next = unsafe OSSL_PROVIDER_query_operation(source, operation, &isVolatile)
        else { return nil }
        var chosen: [OSSL_ALGORITHM] = unsafe []
        while let names = unsafe next.pointee.algorithm_names {
            let first = unsafe String(cString: names).prefix { $0 != ":" }
            if kept[operation]?.contains(String(first)) == true {
                unsafe chosen.append(ours(next.pointee, operation, named: first, isFast) ?? next.pointee)
            }
            unsafe next += 1
        }
        unsafe chosen.append(OSSL_ALGORITHM())
        let table = UnsafeMutablePointer<OSSL_ALGORITHM>.allocate(capacity: unsafe chosen.count)
        unsafe table.initialize(from: chosen, count: chosen.count)
        return unsafe table
    }

    /// Ours, under all the names of libcrypto's, where there is one.
    private static func ours(
        _ theirs: OSSL_ALGORITHM, _ operation: Int32, named name: Substring, _ isFast: Bool
    ) -> OSSL_ALGORITHM? {
        var ours = unsafe theirs
        switch (operation, name) {
        case (OSSL_OP_CIPHER, "AES-128-GCM") where isFast:
            unsafe ours.implementation = unsafe GCMDispatch.table(keyByteCount: 16)
        case (OSSL_OP_CIPHER, "AES-256-GCM") where isFast:
            unsafe ours.implementation = unsafe GCMDispatch.table(keyByteCount: 32)
        case (OSSL_OP_KDF, "TLS13-KDF"): unsafe ours.implementation = unsafe DerivationDispatch.table()
        default: return nil
        }
        return unsafe ours
    }

    func algorithms(_ operation: Int32, _ isVolatile: UnsafeMutablePointer<Int32>?) -> UnsafePointer<
        OSSL_ALGORITHM
    >? {
        if let table = unsafe tables[operation] {
            unsafe isVolatile?.pointee = 0
            return unsafe UnsafePointer(table)
        }
        return unsafe OSSL_PROVIDER_query_operation(source, operation, isVolatile)
    }
}

/// OSSL_FUNC_provider_query_operation (provider-base(7)).
private let query:
    @convention(c) (UnsafeMutableRawPointer?, Int32, UnsafeMutablePointer<Int32>?) -> UnsafePointer<
        OSSL_ALGORITHM
    >? = {
        unsafe FilteredProvider.shared.algorithms($1, $2)
    }

/// OSSL_FUNC_provider_get_capabilities: the groups that TLS may use.
private let capabilities:
    @convention(c) (
        UnsafeMutableRawPointer?, UnsafePointer<CChar>?,
        (@convention(c) (UnsafePointer<OSSL_PARAM>?, UnsafeMutableRawPointer?) -> Int32)?,
        UnsafeMutableRawPointer?
    ) -> Int32 = {
        unsafe OSSL_PROVIDER_get_capabilities(FilteredProvider.shared.source, $1, $2, $3)
    }

/// OSSL_provider_init: the implementations are the default provider's, so they get its context.
func startFilteredProvider(
    _: OpaquePointer?, _: UnsafePointer<OSSL_DISPATCH>?,
    _ dispatch: UnsafeMutablePointer<UnsafePointer<OSSL_DISPATCH>?>?,
    _ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> Int32 {
    guard let source = unsafe FilteredProvider.shared.source else { return 0 }
    unsafe dispatch?.pointee = unsafe UnsafePointer(FilteredProvider.shared.dispatch)
    unsafe context?.pointee = unsafe OSSL_PROVIDER_get0_provider_ctx(source)
    return 1
}
