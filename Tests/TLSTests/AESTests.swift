import CIPSecMB
import COpenSSL
import Glibc
import Linux
import Synchronization
import TestSupport
import Testing

@testable import TLS

/// The AES-GCM of this process, whichever it is, against known answers, libcrypto's own, and forgers.
struct AESTests {
    init() { Realm.chooseAES() }

    @Test(arguments: KnownAnswer.all)
    func `gives the known answers`(answer: KnownAnswer) throws {
        let gcm = try GCM(answer.key)
        let sealed = try gcm.seal(answer.plain, nonce: answer.nonce, associated: [answer.associated])
        #expect(sealed.bytes == answer.sealed && sealed.tag == answer.tag)
        #expect(
            try gcm.open(answer.sealed, tag: answer.tag, nonce: answer.nonce, associated: [answer.associated])
                == answer.plain)
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `agrees with libcrypto's own in every cutting`(seed: UInt64) throws {
        try Self.compare(seed: seed, rounds: 500)
    }

    @Test func `serves many threads at once`() throws {
        let failures = Mutex<[String]>([])
        let threads = try (10..<14).map { seed in
            try Thread.start(name: "seal \(seed)") {
                do { try Self.compare(seed: UInt64(seed), rounds: 200) } catch {
                    failures.withLock { $0.append("\(error)") }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0 } == [])
    }

    /// One key for several records, as in a session; records of any length, cut anywhere, in place and not.
    private static func compare(seed: UInt64, rounds: Int) throws {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<rounds / 4 {
            let key = random.bytes(Bool.random(using: &random) ? 16 : 32)
            let (ours, theirs) = (try GCM(key), try GCM(key, of: .libcrypto))
            for _ in 0..<4 {
                let limit = [1, 40, 400, 4_000, 20_000].randomElement(using: &random) ?? 1
                let plain = random.bytes(Int.random(in: 0...limit, using: &random))
                let nonce = random.bytes(12)
                let associated = random.bytes(Int.random(in: 0...128, using: &random))
                let cuts = random.cuts(of: plain.count)
                let isInPlace = Bool.random(using: &random)
                let expected = try theirs.seal(plain, nonce: nonce, associated: [associated])
                let pieces = random.cuts(of: associated.count).map { Array(associated[$0]) }
                let sealed = try ours.seal(
                    plain, nonce: nonce, associated: pieces, cuts: cuts, inPlace: isInPlace)
                try #require(sealed == expected, "\(plain.count) bytes in \(cuts.count) pieces")
                let opened = try ours.open(
                    sealed.bytes, tag: sealed.tag, nonce: nonce, associated: pieces,
                    cuts: random.cuts(of: plain.count), inPlace: isInPlace)
                try #require(opened == plain, "\(plain.count) bytes in \(cuts.count) pieces")
            }
        }
    }

    @Test(arguments: [16, 32])
    func `refuses every flipped bit of tag, additional data, nonce and content`(keyByteCount: Int) throws {
        var random = SeededGenerator(seed: 21)
        let gcm = try GCM(random.bytes(keyByteCount))
        let message = [random.bytes(37), random.bytes(16), random.bytes(12), random.bytes(5)]
        let sealed = try gcm.seal(message[0], nonce: message[2], associated: [message[3]])
        let parts = [sealed.bytes, sealed.tag, message[2], message[3]]
        var refused = 0
        for part in parts.indices {
            for bit in 0..<parts[part].count * 8 {
                var forged = parts
                forged[part][bit / 8] ^= 1 << UInt8(bit % 8)
                #expect(throws: GCM.Refusal.self) {
                    try gcm.open(forged[0], tag: forged[1], nonce: forged[2], associated: [forged[3]])
                }
                refused += 1
            }
        }
        #expect(refused == (37 + 16 + 12 + 5) * 8)
        #expect(
            try gcm.open(parts[0], tag: parts[1], nonce: parts[2], associated: [parts[3]]) == message[0])
    }

    @Test func `refuses a shortened or lengthened message, and one of another key`() throws {
        var random = SeededGenerator(seed: 22)
        let gcm = try GCM(random.bytes(16))
        let (plain, nonce) = (random.bytes(100), random.bytes(12))
        let sealed = try gcm.seal(plain, nonce: nonce, associated: [[1]])
        for bytes in [Array(sealed.bytes.dropLast()), sealed.bytes + [0], []] {
            #expect(throws: GCM.Refusal.self) {
                try gcm.open(bytes, tag: sealed.tag, nonce: nonce, associated: [[1]])
            }
        }
        for associated in [[], [1, 0], [0, 1]] as [[UInt8]] {
            #expect(throws: GCM.Refusal.self) {
                try gcm.open(sealed.bytes, tag: sealed.tag, nonce: nonce, associated: [associated])
            }
        }
        #expect(throws: GCM.Refusal.self) {
            try GCM(random.bytes(16)).open(sealed.bytes, tag: sealed.tag, nonce: nonce, associated: [[1]])
        }
    }

    @Test func `a nonce is good for one message`() throws {
        let gcm = try GCM([UInt8](repeating: 1, count: 16))
        _ = try gcm.seal([1, 2, 3], nonce: [UInt8](repeating: 2, count: 12), associated: [])
        #expect(!gcm.update([4, 5, 6]) && !gcm.associate([7]) && !gcm.finish())
        // Nor does the key's being set again bring it back.
        #expect(gcm.begin(sealing: true, key: [UInt8](repeating: 3, count: 16)))
        #expect(!gcm.update([4, 5, 6]) && !gcm.finish())
    }

    @Test func `nothing is sealed without key and nonce`() throws {
        let gcm = try GCM([])
        #expect(!gcm.update([1]) && !gcm.finish())
        #expect(gcm.begin(sealing: true, nonce: [UInt8](repeating: 2, count: 12)))
        #expect(!gcm.update([1]) && !gcm.finish())
    }

    @Test func `a copy goes on by itself with the same message`() throws {
        var random = SeededGenerator(seed: 23)
        let (key, nonce, plain) = (random.bytes(32), random.bytes(12), random.bytes(77))
        let expected = try GCM(key).seal(plain, nonce: nonce, associated: [[9, 9]])
        let gcm = try GCM(key)
        #expect(gcm.begin(sealing: true, nonce: nonce) && gcm.associate([9, 9]))
        let head = try #require(gcm.transform(Array(plain[..<30])))
        let copies = try [gcm, gcm.copied(), gcm.copied()]
        for copy in copies {
            let tail = try #require(copy.transform(Array(plain[30...])))
            #expect(copy.finish())
            #expect(head + tail == expected.bytes && copy.tag() == expected.tag)
        }
    }
}

/// What only ours promises.
@Suite(.enabled(if: AESTests.isFast, "libcrypto's AES is in use")) struct FastAESTests {
    private static let key = [UInt8](repeating: 1, count: 16)
    private static let nonce = [UInt8](repeating: 2, count: 12)

    @Test(arguments: ["AES-128-GCM", "id-aes128-GCM", "2.16.840.1.101.3.4.1.6"])
    func `takes the place of libcrypto's under each of its names`(name: String) throws {
        try expectTheSame(name, keyByteCount: 16)
    }

    @Test(arguments: ["AES-256-GCM", "id-aes256-GCM", "2.16.840.1.101.3.4.1.46"])
    func `takes its place for the longer key too`(name: String) throws {
        try expectTheSame(name, keyByteCount: 32)
    }

    private func expectTheSame(_ name: String, keyByteCount: Int32) throws {
        let ours = unsafe try #require(EVP_CIPHER_fetch(Library.shared.context, name, nil))
        let theirs = unsafe try #require(EVP_CIPHER_fetch(nil, name, nil))
        defer {
            unsafe EVP_CIPHER_free(ours)
            unsafe EVP_CIPHER_free(theirs)
        }
        // libcrypto's has a function for a whole message as well, which libssl's TLS 1.3 never calls.
        let flags = unsafe EVP_CIPHER_get_flags(theirs) & ~UInt(EVP_CIPH_FLAG_CUSTOM_CIPHER)
        #expect(unsafe EVP_CIPHER_get_flags(ours) == flags)
        #expect(unsafe EVP_CIPHER_get_mode(ours) == EVP_CIPH_GCM_MODE)
        #expect(unsafe EVP_CIPHER_get_key_length(ours) == keyByteCount)
        #expect(unsafe EVP_CIPHER_get_iv_length(ours) == 12)
        #expect(unsafe EVP_CIPHER_get_block_size(ours) == 1)
        #expect(unsafe EVP_CIPHER_get_nid(ours) == EVP_CIPHER_get_nid(theirs))
        #expect(
            unsafe String(cString: OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(ours))) == "warren")
    }

    @Test func `refuses lengths that are not TLS 1.3's, before it takes key and nonce`() throws {
        for (name, length) in [("ivlen", 16), ("ivlen", 8), ("keylen", 32), ("keylen", 24)] {
            let gcm = try GCM([])
            #expect(!gcm.begin(sealing: true, key: Self.key, nonce: Self.nonce, (name, length)))
            #expect(!gcm.update([1]), "\(name) \(length) was refused, and yet the nonce taken")
        }
        let gcm = try GCM([])
        #expect(gcm.begin(sealing: true, key: Self.key, nonce: Self.nonce, ("ivlen", 12)))
        #expect(gcm.update([1]))
        #expect(!gcm.control(EVP_CTRL_AEAD_SET_IVLEN, 16) && gcm.control(EVP_CTRL_AEAD_SET_IVLEN, 12))
    }

    @Test func `refuses tags that are not whole`() throws {
        let gcm = try GCM(Self.key)
        let sealed = try gcm.seal([1, 2, 3], nonce: Self.nonce, associated: [])
        for count in [0, 4, 8, 12, 15] {
            #expect(throws: GCM.Refusal.self, "\(count) bytes") {
                try gcm.open(
                    sealed.bytes, tag: Array(sealed.tag.prefix(count)), nonce: Self.nonce, associated: [])
            }
        }
        _ = try gcm.seal([1, 2, 3], nonce: Self.nonce, associated: [])
        #expect(!gcm.control(EVP_CTRL_AEAD_GET_TAG, 12) && gcm.control(EVP_CTRL_AEAD_GET_TAG, 16))
    }

    @Test func `a message opened without a tag is refused`() throws {
        let gcm = try GCM(Self.key)
        #expect(gcm.begin(sealing: false, nonce: Self.nonce) && gcm.update([1]) && !gcm.finish())
    }

    @Test func `a tag is for one message`() throws {
        let gcm = try GCM(Self.key)
        let sealed = try gcm.seal([1], nonce: Self.nonce, associated: [])
        #expect(try gcm.open(sealed.bytes, tag: sealed.tag, nonce: Self.nonce, associated: []) == [1])
        #expect(gcm.begin(sealing: false, nonce: Self.nonce))
        #expect(gcm.update(sealed.bytes) && !gcm.finish())
        // What was expected of the peer's message is not what we sealed.
        #expect(gcm.begin(sealing: false, nonce: Self.nonce) && gcm.expect(sealed.tag))
        #expect(gcm.begin(sealing: true, nonce: Self.nonce) && gcm.tag() == nil)
    }

    @Test func `additional data is bounded, and comes before the content`() throws {
        let gcm = try GCM(Self.key)
        #expect(gcm.begin(sealing: true, nonce: Self.nonce))
        #expect(gcm.associate([UInt8](repeating: 0, count: 100)))
        #expect(!gcm.associate([UInt8](repeating: 0, count: 29)))
        #expect(gcm.associate([UInt8](repeating: 0, count: 28)))
        #expect(gcm.update([1]) && !gcm.associate([1]))
    }

    @Test func `makes no nonces of its own: TLS 1.2's ways are refused`() throws {
        let gcm = try GCM(Self.key)
        #expect(gcm.begin(sealing: true, nonce: Self.nonce))
        #expect(!gcm.control(EVP_CTRL_AEAD_TLS1_AAD, 13))
        #expect(!gcm.control(EVP_CTRL_AEAD_SET_IV_FIXED, 4))
        #expect(!gcm.control(EVP_CTRL_GCM_IV_GEN, 8))
        #expect(!gcm.control(EVP_CTRL_GCM_SET_IV_INV, 8))
    }

    @Test func `keys lie on cache lines, and nothing of them stays`() throws {
        let functions = try #require(FilteredProvider.shared.fastAES).aes256
        for _ in 0..<100 {
            let cipher = unsafe GCMCipher.make(functions)
            let memory = unsafe cipher.pointee.memory
            #expect(unsafe Int(bitPattern: memory.key) % GCMMemory.alignment == 0)
            let key = [UInt8](repeating: 0xee, count: 32)
            let isTaken = unsafe key.withUnsafeBytes {
                unsafe cipher.pointee.prepare(sealing: true, key: $0, nonce: nil)
            }
            #expect(isTaken)
            let block = unsafe UnsafeRawBufferPointer(start: memory.block, count: GCMMemory.byteCount)
            #expect(unsafe block.starts(with: key))
            memory.wipe()
            #expect(unsafe block.allSatisfy { $0 == 0 })
            unsafe memory.block.deallocate()
        }
    }
}

/// Where the choice falls; each in a process of its own, for it falls once.
struct AESChoiceTests {
    @Test func `takes libipsec-mb's only where it takes its VAES code and has passed its self-test`() {
        let all = cipsecmb_vaes_features
        #expect(FastAES.isFast(IMB_ARCH_AVX512, features: all))
        for bit in 0..<64 where all >> UInt64(bit) & 1 == 1 {
            #expect(!FastAES.isFast(IMB_ARCH_AVX512, features: all & ~(1 << UInt64(bit))))
        }
        for architecture in [IMB_ARCH_NONE, IMB_ARCH_NOAESNI, IMB_ARCH_SSE, IMB_ARCH_AVX, IMB_ARCH_AVX2] {
            #expect(!FastAES.isFast(architecture, features: .max))
        }
    }

    @Test func `on a processor without AES instructions libcrypto's serves`() async {
        await #expect(processExitsWith: .success) {
            unsafe unsetenv("WARREN_AES")
            AES.use(.auto, without: UInt64(IMB_FLAG_AESNI_OFF))
            #expect(AES.inUse == .libcrypto)
            #expect(FilteredProvider.shared.fastAES == nil)
            for use in LibraryTests.uses { try use() }
            try AESTests().`agrees with libcrypto's own in every cutting`(seed: 5)
        }
    }

    @Test func `is turned off by choice`() async {
        await #expect(processExitsWith: .success) {
            unsafe unsetenv("WARREN_AES")
            AES.use(.libcrypto)
            #expect(AES.inUse == .libcrypto)
            for use in LibraryTests.uses { try use() }
        }
    }

    @Test func `falls once`() async {
        await #expect(processExitsWith: .failure) {
            _ = AES.inUse
            AES.use(.libcrypto)
        }
    }
}

extension AESTests {
    static var isFast: Bool {
        Realm.chooseAES()
        return AES.inUse == .ipsecMB
    }
}

extension SeededGenerator {
    /// Pieces of so many bytes, some of them empty.
    fileprivate mutating func cuts(of count: Int) -> [Range<Int>] {
        let pieces = Int.random(in: 1...6, using: &self)
        let ends = (1..<pieces).map { _ in Int.random(in: 0...count, using: &self) }.sorted() + [count]
        return zip([0] + ends, ends).map { $0..<$1 }
    }
}
