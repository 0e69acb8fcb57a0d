import COpenSSL

/// `GCMCipher` as libcrypto calls it (provider-cipher(7)). What a caller may rely on beyond that page:
///
/// - Lengths among the parameters are checked before key and nonce are taken (CVE-2023-5363); only those of TLS 1.3
///   pass.
/// - Nonces are never made, counted or changed here: the parameters of TLS 1.2 that ask for it are refused.
@safe
enum GCMDispatch {
    /// The tables that libcrypto keeps pointers into, made once and never freed.
    static func table(keyByteCount: Int) -> UnsafePointer<OSSL_DISPATCH> {
        let isShort = keyByteCount == 16
        let functions: [(Int32, Untyped)] = unsafe [
            (OSSL_FUNC_CIPHER_NEWCTX, unsafeBitCast(isShort ? new128 : new256, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_FREECTX, unsafeBitCast(free, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_DUPCTX, unsafeBitCast(copy, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_ENCRYPT_INIT, unsafeBitCast(beginSealing, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_DECRYPT_INIT, unsafeBitCast(beginOpening, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_UPDATE, unsafeBitCast(update, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_FINAL, unsafeBitCast(finish, to: Untyped.self)),
            (
                OSSL_FUNC_CIPHER_GET_PARAMS,
                unsafeBitCast(isShort ? describe128 : describe256, to: Untyped.self)
            ),
            (OSSL_FUNC_CIPHER_GET_CTX_PARAMS, unsafeBitCast(getParameters, to: Untyped.self)),
            (OSSL_FUNC_CIPHER_SET_CTX_PARAMS, unsafeBitCast(setParameters, to: Untyped.self)),
        ]
        let table = UnsafeMutablePointer<OSSL_DISPATCH>.allocate(capacity: functions.count + 1)
        for (index, (identifier, function)) in functions.enumerated() {
            unsafe (table + index).initialize(
                to: OSSL_DISPATCH(function_id: identifier, function: function))
        }
        unsafe (table + functions.count).initialize(to: OSSL_DISPATCH())
        return unsafe UnsafePointer(table)
    }
}

// MARK: - Making and freeing

private let new128: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { _ in
    unsafe FilteredProvider.shared.fastAES.map { unsafe UnsafeMutableRawPointer(GCMCipher.make($0.aes128)) }
}

private let new256: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { _ in
    unsafe FilteredProvider.shared.fastAES.map { unsafe UnsafeMutableRawPointer(GCMCipher.make($0.aes256)) }
}

private let free: @convention(c) (UnsafeMutableRawPointer?) -> Void = {
    unsafe cipher($0)?.pointee.free()
}

private let copy: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
    unsafe cipher($0).map { unsafe UnsafeMutableRawPointer($0.pointee.copied()) }
}

private func cipher(_ context: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<GCMCipher>? {
    unsafe context?.assumingMemoryBound(to: GCMCipher.self)
}

// MARK: - Sealing and opening

private typealias Begin =
    @convention(c) (
        UnsafeMutableRawPointer?, UnsafePointer<UInt8>?, Int, UnsafePointer<UInt8>?, Int, Parameters?
    ) -> Int32

private let beginSealing: Begin = { unsafe begin($0, sealing: true, $1, $2, $3, $4, $5) }
private let beginOpening: Begin = { unsafe begin($0, sealing: false, $1, $2, $3, $4, $5) }

private func begin(
    _ context: UnsafeMutableRawPointer?, sealing: Bool, _ key: UnsafePointer<UInt8>?, _ keyByteCount: Int,
    _ nonce: UnsafePointer<UInt8>?, _ nonceByteCount: Int, _ parameters: Parameters?
) -> Int32 {
    guard let cipher = unsafe cipher(context),
        unsafe cipher.pointee.prepare(sealing: sealing, key: nil, nonce: nil),
        unsafe set(parameters, of: cipher) == 1
    else { return 0 }
    let key = unsafe key.map { unsafe UnsafeRawBufferPointer(start: $0, count: keyByteCount) }
    let nonce = unsafe nonce.map { unsafe UnsafeRawBufferPointer(start: $0, count: nonceByteCount) }
    return unsafe cipher.pointee.prepare(sealing: sealing, key: key, nonce: nonce) ? 1 : 0
}

private let update:
    @convention(c) (
        UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<Int>?, Int,
        UnsafePointer<UInt8>?, Int
    ) -> Int32 = { context, output, written, capacity, input, count in
        guard let cipher = unsafe cipher(context), let written = unsafe written else { return 0 }
        unsafe written.pointee = 0
        guard count > 0, let input = unsafe input else { return count == 0 ? 1 : 0 }
        let bytes = unsafe UnsafeRawBufferPointer(start: input, count: count)
        if let output = unsafe output {
            guard capacity >= count, unsafe cipher.pointee.update(bytes, into: output) else { return 0 }
        } else {
            guard unsafe cipher.pointee.associate(bytes) else { return 0 }
        }
        unsafe written.pointee = count
        return 1
    }

private let finish:
    @convention(c) (UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<Int>?, Int)
        -> Int32 = { context, _, written, _ in
            unsafe written?.pointee = 0
            return unsafe cipher(context)?.pointee.finish() == true ? 1 : 0
        }

// MARK: - Parameters

private let describe128: @convention(c) (Parameters?) -> Int32 = { unsafe describe($0, keyByteCount: 16) }
private let describe256: @convention(c) (Parameters?) -> Int32 = { unsafe describe($0, keyByteCount: 32) }

/// What is known of the cipher before there is a key: the same as libcrypto's own says of itself.
private func describe(_ parameters: Parameters?, keyByteCount: Int) -> Int32 {
    unsafe each(parameters) { name, parameter in
        switch true {
        case name == "mode": unsafe OSSL_PARAM_set_uint(parameter, UInt32(EVP_CIPH_GCM_MODE)) == 1
        case name == "keylen": unsafe OSSL_PARAM_set_size_t(parameter, keyByteCount) == 1
        case name == "ivlen": unsafe OSSL_PARAM_set_size_t(parameter, GCMCipher.nonceByteCount) == 1
        case name == "blocksize": unsafe OSSL_PARAM_set_size_t(parameter, 1) == 1
        case name == "aead", name == "custom-iv":
            unsafe OSSL_PARAM_set_int(parameter, 1) == 1
        default: true
        }
    }
}

private let getParameters: @convention(c) (UnsafeMutableRawPointer?, Parameters?) -> Int32 = {
    context, parameters in
    guard let cipher = unsafe cipher(context) else { return 0 }
    return unsafe each(parameters) { name, parameter in
        switch true {
        case name == "ivlen": unsafe OSSL_PARAM_set_size_t(parameter, GCMCipher.nonceByteCount) == 1
        case name == "keylen":
            unsafe OSSL_PARAM_set_size_t(parameter, cipher.pointee.functions.keyByteCount) == 1
        case name == "taglen": unsafe OSSL_PARAM_set_size_t(parameter, GCMCipher.tagByteCount) == 1
        case name == "tag":
            unsafe parameter.pointee.data_type == OSSL_PARAM_OCTET_STRING
                && cipher.pointee.writeTag(
                    to: UnsafeMutableRawBufferPointer(
                        start: parameter.pointee.data, count: parameter.pointee.data_size))
        // "iv", "updated-iv", TLS 1.2's "tlsivgen": callers take a silent 1 for an answer.
        default: false
        }
    }
}

private let setParameters: @convention(c) (UnsafeMutableRawPointer?, Parameters?) -> Int32 = {
    unsafe cipher($0).map { [parameters = $1] in unsafe set(parameters, of: $0) } ?? 0
}

private func set(_ parameters: Parameters?, of cipher: UnsafeMutablePointer<GCMCipher>) -> Int32 {
    unsafe each(parameters) { name, parameter in
        switch true {
        case name == "ivlen": unsafe size(parameter) == GCMCipher.nonceByteCount
        case name == "keylen": unsafe size(parameter) == cipher.pointee.functions.keyByteCount
        case name == "tag":
            unsafe parameter.pointee.data_type == OSSL_PARAM_OCTET_STRING
                && cipher.pointee.expect(
                    UnsafeRawBufferPointer(start: parameter.pointee.data, count: parameter.pointee.data_size))
        case name == "tlsaad", name == "tlsivfixed", name == "tlsivinv": false
        default: true
        }
    }
}

private func size(_ parameter: Parameters) -> Int? {
    var value = 0
    return unsafe OSSL_PARAM_get_size_t(parameter, &value) == 1 ? value : nil
}
