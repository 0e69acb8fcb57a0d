import COpenSSL
import Glibc

/// `KeySchedule` as libcrypto calls it, under the name of its own `TLS13-KDF` (provider-kdf(7)), and who listens to it.
///
/// A derivation is told everything when it is made, as libssl does it: it keeps nothing, and refuses to be told before.
@safe
enum DerivationDispatch {
    /// The table that libcrypto keeps pointers into, made once and never freed.
    static func table() -> UnsafePointer<OSSL_DISPATCH> {
        let functions: [(Int32, Untyped)] = unsafe [
            (OSSL_FUNC_KDF_NEWCTX, unsafeBitCast(new, to: Untyped.self)),
            (OSSL_FUNC_KDF_FREECTX, unsafeBitCast(free, to: Untyped.self)),
            (OSSL_FUNC_KDF_RESET, unsafeBitCast(free, to: Untyped.self)),
            (OSSL_FUNC_KDF_DERIVE, unsafeBitCast(derive, to: Untyped.self)),
            (OSSL_FUNC_KDF_SET_CTX_PARAMS, unsafeBitCast(refuse, to: Untyped.self)),
        ]
        let table = UnsafeMutablePointer<OSSL_DISPATCH>.allocate(capacity: functions.count + 1)
        for (index, (identifier, function)) in functions.enumerated() {
            unsafe (table + index).initialize(to: OSSL_DISPATCH(function_id: identifier, function: function))
        }
        unsafe (table + functions.count).initialize(to: OSSL_DISPATCH())
        return unsafe UnsafePointer(table)
    }

    /// The session whose handshake this thread is in, for it wants the traffic secrets (RFC 8446 §7.1).
    ///
    /// libssl tells them by its key log alone, as text: `sprintf` for every byte, a twentieth of a handshake.
    static func whileListening<Result, Failure>(
        _ session: TLSSession, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        unsafe pthread_setspecific(listener, Unmanaged.passUnretained(session).toOpaque())
        defer { pthread_setspecific(listener, nil) }
        return try body()
    }

    fileprivate static let listener: pthread_key_t = {
        var key = pthread_key_t()
        let status = unsafe pthread_key_create(&key, nil)
        precondition(status == 0, "no key for a thread's own data is left")
        return key
    }()

    /// A context has nothing in it; libcrypto only wants an address.
    nonisolated(unsafe) fileprivate static let context = UnsafeMutableRawPointer.allocate(
        byteCount: 1, alignment: 1)
}

private let new: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { _ in
    unsafe DerivationDispatch.context
}

private let free: @convention(c) (UnsafeMutableRawPointer?) -> Void = { _ in }

private let refuse: @convention(c) (UnsafeMutableRawPointer?, Parameters?) -> Int32 = { _, parameters in
    unsafe each(parameters) { _, _ in false }
}

private let derive:
    @convention(c) (UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt8>?, Int, Parameters?) -> Int32 = {
        _, target, count, parameters in
        guard let target = unsafe target, let wish = unsafe Wish(parameters), let suite = wish.suite else {
            return 0
        }
        let area = unsafe UnsafeMutableRawBufferPointer(start: target, count: count)
        switch wish.mode {
        case EVP_KDF_HKDF_MODE_EXTRACT_ONLY:
            return unsafe KeySchedule.extract(
                suite, previous: wish.salt, input: wish.key, prefix: wish.prefix, label: wish.label,
                into: area)
                ? 1 : 0
        case EVP_KDF_HKDF_MODE_EXPAND_ONLY:
            guard
                unsafe KeySchedule.expand(
                    suite, wish.key, prefix: wish.prefix, label: wish.label, context: wish.data, into: area)
            else { return 0 }
            if let session = unsafe pthread_getspecific(DerivationDispatch.listener) {
                let session = unsafe Unmanaged<TLSSession>.fromOpaque(session).takeUnretainedValue()
                unsafe session.derived(suite, label: wish.label, UnsafeRawBufferPointer(area))
            }
            return 1
        default: return 0
        }
    }

/// What a derivation is asked for (EVP_KDF-TLS13_KDF(7)).
@safe
private struct Wish {
    var mode: Int32 = -1
    var suite: RecordSuite?
    var key = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    var salt = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    var prefix = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    var label = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    var data = unsafe UnsafeRawBufferPointer(start: nil, count: 0)

    /// - Returns: nil when a parameter is of another kind than it must be.
    init?(_ parameters: Parameters?) {
        let isGood = unsafe each(parameters) { name, parameter in
            switch true {
            case name == "mode": unsafe OSSL_PARAM_get_int(parameter, &mode) == 1
            case name == "digest": unsafe setDigest(parameter)
            case name == "key": unsafe Self.octets(parameter, &key)
            case name == "salt": unsafe Self.octets(parameter, &salt)
            case name == "prefix": unsafe Self.octets(parameter, &prefix)
            case name == "label": unsafe Self.octets(parameter, &label)
            case name == "data": unsafe Self.octets(parameter, &data)
            default: true
            }
        }
        guard isGood == 1 else { return nil }
    }

    private mutating func setDigest(_ parameter: Parameters) -> Bool {
        guard unsafe parameter.pointee.data_type == OSSL_PARAM_UTF8_STRING,
            let data = unsafe parameter.pointee.data
        else { return false }
        let name = unsafe ParameterName(start: data.assumingMemoryBound(to: CChar.self))
        if name == "SHA2-256" || name == "SHA256" {
            suite = .aes128
        } else if name == "SHA2-384" || name == "SHA384" {
            suite = .aes256
        }
        return suite != nil
    }

    private static func octets(_ parameter: Parameters, _ bytes: inout UnsafeRawBufferPointer) -> Bool {
        guard unsafe parameter.pointee.data_type == OSSL_PARAM_OCTET_STRING else { return false }
        unsafe bytes = UnsafeRawBufferPointer(
            start: parameter.pointee.data, count: parameter.pointee.data_size)
        return true
    }
}
