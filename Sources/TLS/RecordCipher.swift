import COpenSSL

/// One AES-GCM key for one direction: libipsec-mb's where it is in use, called without the detour through libcrypto, which
/// took a third as long as the AES itself where records are short; else libcrypto's. Wiped at its end.
@safe
struct RecordCipher: ~Copyable {
    private let gcm: UnsafeMutablePointer<GCMCipher>?
    private let context: OpaquePointer?
    private let isSealing: Bool

    /// - Parameter key: as long as the suite's keys are.
    static func make(_ suite: RecordSuite, isSealing: Bool, key: UnsafeRawBufferPointer) throws(TLSError)
        -> RecordCipher
    {
        ErrorQueue.clear()
        let cipher = RecordCipher(suite, isSealing: isSealing)
        guard unsafe cipher.setKey(key, suite) else { throw .library(ErrorQueue.take()) }
        return cipher
    }

    private init(_ suite: RecordSuite, isSealing: Bool) {
        self.isSealing = isSealing
        if Library.shared.aes == .ipsecMB, let fast = FilteredProvider.shared.fastAES {
            unsafe gcm = GCMCipher.make(suite == .aes128 ? fast.aes128 : fast.aes256)
            unsafe context = nil
        } else {
            unsafe gcm = nil
            unsafe context = EVP_CIPHER_CTX_new()
        }
    }

    private func setKey(_ key: UnsafeRawBufferPointer, _ suite: RecordSuite) -> Bool {
        if let gcm = unsafe gcm {
            return unsafe gcm.pointee.prepare(sealing: isSealing, key: key, nonce: nil)
        }
        guard let cipher = unsafe suite.cipher, unsafe context != nil else { return false }
        return unsafe EVP_CipherInit_ex2(
            context, cipher, key.baseAddress?.assumingMemoryBound(to: UInt8.self), nil, isSealing ? 1 : 0, nil
        )
            == 1
    }

    deinit {
        unsafe gcm?.pointee.free()
        unsafe EVP_CIPHER_CTX_free(context)
    }

    /// Begins a record.
    ///
    /// - Parameters:
    ///   - nonce: 12 bytes, never the same twice under one key.
    ///   - associated: bytes that are authenticated and not sealed.
    mutating func begin(nonce: UnsafePointer<UInt8>, _ associated: UnsafeRawBufferPointer) -> Bool {
        if let gcm = unsafe gcm {
            let nonce = unsafe UnsafeRawBufferPointer(start: nonce, count: GCMCipher.nonceByteCount)
            return unsafe gcm.pointee.prepare(sealing: isSealing, key: nil, nonce: nonce)
                && gcm.pointee.associate(associated)
        }
        var count: Int32 = 0
        return unsafe EVP_CipherInit_ex2(context, nil, nil, nonce, -1, nil) == 1
            && EVP_CipherUpdate(
                context, nil, &count, associated.baseAddress?.assumingMemoryBound(to: UInt8.self),
                Int32(associated.count)) == 1
    }

    /// Seals or opens the next bytes of the record.
    mutating func update(_ input: UnsafeRawBufferPointer, into output: UnsafeMutablePointer<UInt8>) -> Bool {
        guard unsafe !input.isEmpty else { return true }
        if let gcm = unsafe gcm { return unsafe gcm.pointee.update(input, into: output) }
        var count: Int32 = 0
        return unsafe EVP_CipherUpdate(
            context, output, &count, input.baseAddress?.assumingMemoryBound(to: UInt8.self),
            Int32(input.count))
            == 1
    }

    /// Ends a record that was sealed.
    ///
    /// - Parameter tag: where the record's tag goes.
    mutating func finish(writing tag: UnsafeMutablePointer<UInt8>) -> Bool {
        if let gcm = unsafe gcm {
            return unsafe gcm.pointee.finish()
                && gcm.pointee.writeTag(
                    to: UnsafeMutableRawBufferPointer(start: tag, count: GCMCipher.tagByteCount))
        }
        var count: Int32 = 0
        return unsafe EVP_CipherFinal_ex(context, tag, &count) == 1
            && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(GCMCipher.tagByteCount), tag) == 1
    }

    /// Says which tag a record must have. To be called between `begin` and `update`.
    mutating func expect(_ tag: UnsafeMutablePointer<UInt8>) -> Bool {
        if let gcm = unsafe gcm {
            return unsafe gcm.pointee.expect(
                UnsafeRawBufferPointer(start: tag, count: GCMCipher.tagByteCount))
        }
        return unsafe EVP_CIPHER_CTX_ctrl(
            context, EVP_CTRL_AEAD_SET_TAG, Int32(GCMCipher.tagByteCount), tag) == 1
    }

    /// Ends a record that was opened.
    ///
    /// - Returns: false when it has another tag than the expected one; nothing of it may be used then.
    mutating func verify() -> Bool {
        if let gcm = unsafe gcm { return unsafe gcm.pointee.finish() }
        var count: Int32 = 0
        var nothing: UInt8 = 0
        return unsafe EVP_CipherFinal_ex(context, &nothing, &count) == 1
    }
}
