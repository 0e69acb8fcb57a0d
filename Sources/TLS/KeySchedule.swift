import COpenSSL

/// The derivations of TLS 1.3 (RFC 8446 §7.1), over the hash of the cipher suite.
///
/// libcrypto's own (`TLS13-KDF`) fetches its hash, copies each parameter and makes contexts for HMAC in every one of some forty
/// derivations of a handshake: with the key log, which this needs no more either, 85 of 700 µs, both sides.
enum KeySchedule {
    /// HKDF-Expand-Label.
    ///
    /// - Parameters:
    ///   - prefix: what goes before the label, in TLS `tls13 `.
    ///   - context: the transcript's hash, or nothing.
    ///   - target: where the secret goes.
    /// - Returns: false when a length is beyond what the RFC has a place for; nothing is written then.
    static func expand(
        _ suite: RecordSuite, _ secret: UnsafeRawBufferPointer, prefix: UnsafeRawBufferPointer,
        label: UnsafeRawBufferPointer, context: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        switch suite {
        case .aes128:
            unsafe expand(SHA256.self, secret, prefix, label, context, target)
        case .aes256:
            unsafe expand(SHA384.self, secret, prefix, label, context, target)
        }
    }

    /// HKDF-Extract, with the secret before as the salt: its "derived" one, where there is one before.
    ///
    /// - Parameters:
    ///   - previous: the secret before; empty for the first.
    ///   - input: what is stirred in; empty for zeros.
    ///   - target: as long as the suite's hash.
    /// - Returns: as of `expand`.
    static func extract(
        _ suite: RecordSuite, previous: UnsafeRawBufferPointer, input: UnsafeRawBufferPointer,
        prefix: UnsafeRawBufferPointer, label: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        switch suite {
        case .aes128:
            unsafe extract(SHA256.self, previous, input, prefix, label, target)
        case .aes256:
            unsafe extract(SHA384.self, previous, input, prefix, label, target)
        }
    }

    private static func expand<Hash: HashFunction>(
        _: Hash.Type, _ secret: UnsafeRawBufferPointer, _ prefix: UnsafeRawBufferPointer,
        _ label: UnsafeRawBufferPointer, _ context: UnsafeRawBufferPointer,
        _ target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard secret.count <= Hash.blockByteCount, prefix.count + label.count <= 255, context.count <= 255,
            target.count <= 255 * Hash.byteCount
        else { return false }
        // struct { uint16 length; opaque label<7..255>; opaque context<0..255>; } HkdfLabel
        return unsafe withUnsafeTemporaryAllocation(byteCount: 4 + 255 + 255, alignment: 8) { information in
            var count = 0
            func append(_ byte: Int) {
                unsafe information[count] = UInt8(truncatingIfNeeded: byte)
                count += 1
            }
            func append(_ bytes: UnsafeRawBufferPointer) {
                unsafe UnsafeMutableRawBufferPointer(rebasing: information[count...]).copyMemory(from: bytes)
                count += bytes.count
            }
            append(target.count >> 8)
            append(target.count)
            append(prefix.count + label.count)
            unsafe append(prefix)
            unsafe append(label)
            append(context.count)
            unsafe append(context)
            let whole = unsafe UnsafeRawBufferPointer(rebasing: information[..<count])
            unsafe HMAC<Hash>.expand(secret, whole, into: target)
            return true
        }
    }

    private static func extract<Hash: HashFunction>(
        _: Hash.Type, _ previous: UnsafeRawBufferPointer, _ input: UnsafeRawBufferPointer,
        _ prefix: UnsafeRawBufferPointer, _ label: UnsafeRawBufferPointer,
        _ target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard target.count == Hash.byteCount else { return false }
        return unsafe withUnsafeTemporaryAllocation(byteCount: 3 * Hash.byteCount, alignment: 16) { scratch in
            defer { unsafe OPENSSL_cleanse(scratch.baseAddress, scratch.count) }
            unsafe scratch.initializeMemory(as: UInt8.self, repeating: 0)
            let salt = unsafe UnsafeMutableRawBufferPointer(rebasing: scratch[..<Hash.byteCount])
            let empty = unsafe UnsafeMutableRawBufferPointer(
                rebasing: scratch[Hash.byteCount..<2 * Hash.byteCount])
            let zeros = unsafe UnsafeRawBufferPointer(rebasing: scratch[(2 * Hash.byteCount)...])
            if unsafe !previous.isEmpty {
                var hash = Hash()
                unsafe hash.finish(into: empty)
                guard unsafe expand(Hash.self, previous, prefix, label, UnsafeRawBufferPointer(empty), salt)
                else { return false }
            }
            var code = unsafe HMAC<Hash>(UnsafeRawBufferPointer(salt))
            unsafe code.update(input.isEmpty ? zeros : input)
            unsafe code.finish(into: target)
            return true
        }
    }
}

// MARK: - Hashes

/// A hash as libcrypto's functions without contexts have it, on the stack and with the processor's instructions for it.
/// Wiped when it is finished, for what it has hashed may be a key.
private protocol HashFunction {
    static var byteCount: Int { get }
    static var blockByteCount: Int { get }
    init()
    mutating func update(_ bytes: UnsafeRawBufferPointer)
    /// - Parameter target: `byteCount` bytes.
    mutating func finish(into target: UnsafeMutableRawBufferPointer)
}

@safe
private struct SHA256: HashFunction {
    static let byteCount = 32
    static let blockByteCount = 64
    private var state = SHA256_CTX()

    init() { unsafe _ = copenssl_sha256_init(&state) }
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        unsafe _ = copenssl_sha256_update(&state, bytes.baseAddress, bytes.count)
    }
    mutating func finish(into target: UnsafeMutableRawBufferPointer) {
        unsafe _ = copenssl_sha256_final(target.baseAddress?.assumingMemoryBound(to: UInt8.self), &state)
        unsafe OPENSSL_cleanse(&state, MemoryLayout<SHA256_CTX>.size)
    }
}

@safe
private struct SHA384: HashFunction {
    static let byteCount = 48
    static let blockByteCount = 128
    private var state = SHA512_CTX()

    init() { unsafe _ = copenssl_sha384_init(&state) }
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        unsafe _ = copenssl_sha384_update(&state, bytes.baseAddress, bytes.count)
    }
    mutating func finish(into target: UnsafeMutableRawBufferPointer) {
        unsafe _ = copenssl_sha384_final(target.baseAddress?.assumingMemoryBound(to: UInt8.self), &state)
        unsafe OPENSSL_cleanse(&state, MemoryLayout<SHA512_CTX>.size)
    }
}

/// RFC 2104, for keys that are no longer than a block.
private struct HMAC<Hash: HashFunction> {
    private var inner = Hash()
    private var outer = Hash()

    init(_ key: UnsafeRawBufferPointer) {
        unsafe withUnsafeTemporaryAllocation(byteCount: Hash.blockByteCount, alignment: 16) { pad in
            unsafe pad.initializeMemory(as: UInt8.self, repeating: 0x36)
            for index in 0..<key.count { unsafe pad[index] = key[index] ^ 0x36 }
            unsafe inner.update(UnsafeRawBufferPointer(pad))
            for index in pad.indices { unsafe pad[index] ^= 0x36 ^ 0x5c }
            unsafe outer.update(UnsafeRawBufferPointer(pad))
            unsafe OPENSSL_cleanse(pad.baseAddress, pad.count)
        }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) { unsafe inner.update(bytes) }

    /// - Parameter target: as long as the hash.
    mutating func finish(into target: UnsafeMutableRawBufferPointer) {
        unsafe inner.finish(into: target)
        unsafe outer.update(UnsafeRawBufferPointer(target))
        unsafe outer.finish(into: target)
    }

    /// HKDF-Expand (RFC 5869 §2.3).
    static func expand(
        _ key: UnsafeRawBufferPointer, _ information: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) {
        unsafe withUnsafeTemporaryAllocation(byteCount: Hash.byteCount + 1, alignment: 16) { block in
            defer { unsafe OPENSSL_cleanse(block.baseAddress, block.count) }
            let code = unsafe UnsafeMutableRawBufferPointer(rebasing: block[..<Hash.byteCount])
            let number = unsafe UnsafeMutableRawBufferPointer(rebasing: block[Hash.byteCount...])
            var offset = 0
            unsafe number[0] = 1
            while offset < target.count {
                var next = unsafe HMAC(key)
                if offset > 0 { unsafe next.update(UnsafeRawBufferPointer(code)) }
                unsafe next.update(information)
                unsafe next.update(UnsafeRawBufferPointer(number))
                unsafe next.finish(into: code)
                let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset...])
                unsafe rest.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: code[..<min(rest.count, Hash.byteCount)]))
                offset += Hash.byteCount
                unsafe number[0] &+= 1
            }
        }
    }
}
