import CIPSecMB
import COpenSSL

/// An AES-GCM key and the record under way with it (NIST SP 800-38D): what an `EVP_CIPHER_CTX` holds.
///
/// Nonces of 12 bytes and tags of 16 only, as TLS 1.3 has them. A nonce is dropped with its record, so that no two
/// records are sealed under the same one by forgetting to set the next.
@safe
struct GCMCipher {
    static let nonceByteCount = 12
    static let tagByteCount = 16
    /// Additional data waits until there is something to seal, and may come in pieces; a record's has 5 bytes.
    static let associatedLimit = 128
    /// Bytes that one nonce may seal (SP 800-38D §5.2.1.1).
    static let messageLimit: UInt64 = (1 << 36) - 32

    private enum Stage {
        /// There is no nonce, or it has been used.
        case idle
        /// There is one, and additional data may come.
        case prepared
        case running
    }

    let functions: GCMFunctions
    let memory: GCMMemory
    private var stage = Stage.idle
    private var isSealing = false
    private var hasKey = false
    /// Of the record sealed last, or to be opened.
    private var hasTag = false
    private var associatedByteCount = 0
    private var messageByteCount: UInt64 = 0
}

// MARK: - Its life

extension GCMCipher {
    static func make(_ functions: GCMFunctions) -> UnsafeMutablePointer<GCMCipher> {
        let memory = GCMMemory.allocate()
        unsafe memory.cipher.initialize(to: GCMCipher(functions: functions, memory: memory))
        return unsafe memory.cipher
    }

    /// Another one with the same key, that goes on with the same record.
    func copied() -> UnsafeMutablePointer<GCMCipher> {
        let memory = memory.copied()
        var copy = GCMCipher(functions: functions, memory: memory)
        copy.stage = stage
        copy.isSealing = isSealing
        copy.hasKey = hasKey
        copy.hasTag = hasTag
        copy.associatedByteCount = associatedByteCount
        copy.messageByteCount = messageByteCount
        unsafe memory.cipher.initialize(to: copy)
        return unsafe memory.cipher
    }

    /// Wipes key and record and gives back their memory, in which this value itself lies.
    func free() { memory.free() }

    private init(functions: GCMFunctions, memory: GCMMemory) {
        self.functions = functions
        self.memory = memory
    }
}

// MARK: - Its use

extension GCMCipher {
    /// Sets key, nonce or both. What is not given stays, but for a nonce that was in use.
    ///
    /// - Returns: false when a length does not fit. Nothing has changed then.
    mutating func prepare(
        sealing: Bool, key: UnsafeRawBufferPointer?, nonce: UnsafeRawBufferPointer?
    ) -> Bool {
        if let key = unsafe key, key.count != functions.keyByteCount { return false }
        if let nonce = unsafe nonce, nonce.count != Self.nonceByteCount { return false }
        if sealing != isSealing { (isSealing, hasTag, stage) = (sealing, false, .idle) }
        if stage == .running { stage = .idle }
        if let key = unsafe key {
            unsafe functions.prepare(key.baseAddress, memory.key)
            hasKey = true
        }
        if let nonce = unsafe nonce {
            unsafe UnsafeMutableRawBufferPointer(start: memory.nonce, count: Self.nonceByteCount).copyMemory(
                from: nonce)
            associatedByteCount = 0
            stage = .prepared
        }
        return true
    }

    /// Adds bytes that are authenticated and not sealed.
    mutating func associate(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard stage == .prepared, bytes.count <= Self.associatedLimit - associatedByteCount else {
            return false
        }
        unsafe UnsafeMutableRawBufferPointer(
            start: memory.associated + associatedByteCount, count: bytes.count
        ).copyMemory(from: bytes)
        associatedByteCount += bytes.count
        return true
    }

    /// Seals or opens the next bytes. What is opened is not to be believed before `finish`.
    ///
    /// - Parameter output: where as many bytes go; may be where `input` is.
    mutating func update(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawPointer) -> Bool {
        guard begin(), UInt64(input.count) <= Self.messageLimit - messageByteCount else { return false }
        messageByteCount += UInt64(input.count)
        let transform = unsafe isSealing ? functions.seal : functions.open
        unsafe transform(
            memory.key, memory.record, output.assumingMemoryBound(to: UInt8.self),
            input.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(input.count))
        return true
    }

    /// Ends the record: makes its tag, or compares it with the one that is expected. Its nonce is dropped.
    ///
    /// - Returns: false when the tag is another one, and then nothing of what was opened may be used.
    mutating func finish() -> Bool {
        guard begin() else { return false }
        stage = .idle
        if isSealing {
            unsafe functions.endSealing(memory.key, memory.record, memory.tag, UInt64(Self.tagByteCount))
            hasTag = true
            return true
        }
        unsafe functions.endOpening(memory.key, memory.record, memory.computed, UInt64(Self.tagByteCount))
        guard hasTag else { return false }
        hasTag = false
        return unsafe CRYPTO_memcmp(memory.tag, memory.computed, Self.tagByteCount) == 0
    }

    /// Sets the tag that a record to be opened must have.
    mutating func expect(_ tag: UnsafeRawBufferPointer) -> Bool {
        guard !isSealing, tag.count == Self.tagByteCount else { return false }
        unsafe UnsafeMutableRawBufferPointer(start: memory.tag, count: Self.tagByteCount).copyMemory(
            from: tag)
        hasTag = true
        return true
    }

    /// Gives the tag of the record that was sealed last.
    func writeTag(to target: UnsafeMutableRawBufferPointer) -> Bool {
        guard isSealing, hasTag, stage == .idle, target.count == Self.tagByteCount else { return false }
        unsafe target.copyMemory(from: UnsafeRawBufferPointer(start: memory.tag, count: Self.tagByteCount))
        return true
    }

    /// Hands nonce and additional data to libipsec-mb, which wants both whole.
    private mutating func begin() -> Bool {
        if stage == .running { return true }
        guard stage == .prepared, hasKey else { return false }
        unsafe functions.begin(
            memory.key, memory.record, memory.nonce, memory.associated, UInt64(associatedByteCount))
        messageByteCount = 0
        stage = .running
        return true
    }
}

// MARK: - Its memory

/// One block that holds all of a cipher's secrets and the cipher itself, in the order of the offsets below.
@safe
struct GCMMemory {
    let block: UnsafeMutableRawPointer

    /// libipsec-mb moves its keys by whole cache lines.
    static let alignment = 64
    private static let record = (MemoryLayout<gcm_key_data>.size + 63) & ~63
    private static let nonce = record + (MemoryLayout<gcm_context_data>.size + 15) & ~15
    private static let tag = nonce + 16
    private static let computed = tag + GCMCipher.tagByteCount
    private static let associated = computed + GCMCipher.tagByteCount
    private static let cipher = (associated + GCMCipher.associatedLimit + 63) & ~63
    static let byteCount = cipher + MemoryLayout<GCMCipher>.size

    var key: UnsafeMutablePointer<gcm_key_data> {
        unsafe block.assumingMemoryBound(to: gcm_key_data.self)
    }
    var record: UnsafeMutablePointer<gcm_context_data> {
        unsafe (block + Self.record).assumingMemoryBound(to: gcm_context_data.self)
    }
    var nonce: UnsafeMutablePointer<UInt8> { unsafe bytes(at: Self.nonce) }
    var tag: UnsafeMutablePointer<UInt8> { unsafe bytes(at: Self.tag) }
    var computed: UnsafeMutablePointer<UInt8> { unsafe bytes(at: Self.computed) }
    var associated: UnsafeMutablePointer<UInt8> { unsafe bytes(at: Self.associated) }
    var cipher: UnsafeMutablePointer<GCMCipher> {
        unsafe (block + Self.cipher).assumingMemoryBound(to: GCMCipher.self)
    }

    private func bytes(at offset: Int) -> UnsafeMutablePointer<UInt8> {
        unsafe (block + offset).assumingMemoryBound(to: UInt8.self)
    }

    static func allocate() -> GCMMemory {
        let block = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: alignment)
        unsafe block.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        return unsafe GCMMemory(block: block)
    }

    func copied() -> GCMMemory {
        let copy = Self.allocate()
        unsafe copy.block.copyMemory(from: block, byteCount: Self.cipher)
        return copy
    }

    func wipe() { unsafe OPENSSL_cleanse(block, Self.byteCount) }

    func free() {
        wipe()
        unsafe block.deallocate()
    }
}
