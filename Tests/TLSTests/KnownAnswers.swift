import Testing

struct KnownAnswer: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let key: [UInt8]
    let nonce: [UInt8]
    let associated: [UInt8]
    let plain: [UInt8]
    let sealed: [UInt8]
    let tag: [UInt8]

    private init(
        _ name: String, key: String, nonce: String, associated: String = "", plain: String = "",
        sealed: String = "", tag: String
    ) {
        testDescription = name
        self.key = bytes(key)
        self.nonce = bytes(nonce)
        self.associated = bytes(associated)
        self.plain = bytes(plain)
        self.sealed = bytes(sealed)
        self.tag = bytes(tag)
    }

    private static let zeroNonce = String(repeating: "0", count: 24)
    private static let zeroBlock = String(repeating: "0", count: 32)
    private static let key = "feffe9928665731c6d6a8f9467308308"
    private static let nonce = "cafebabefacedbaddecaf888"
    private static let associated = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
    private static let plain =
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        + "b16aedf5aa0de657ba637b391aafd255"
    private static let sealed128 =
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05"
        + "1ba30b396a0aac973d58e091473f5985"
    private static let sealed256 =
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
        + "c5f61e6393ba7a0abcc9f662898015ad"

    /// The cases of the submission to NIST (McGrew, Viega: The Galois/Counter Mode of Operation, appendix B) that
    /// have nonces of 96 bits and keys of 128 or 256.
    static let all = [
        KnownAnswer(
            "case 1", key: zeroBlock, nonce: zeroNonce, tag: "58e2fccefa7e3061367f1d57a4e7455a"),
        KnownAnswer(
            "case 2", key: zeroBlock, nonce: zeroNonce, plain: zeroBlock,
            sealed: "0388dace60b6a392f328c2b971b2fe78", tag: "ab6e47d42cec13bdf53a67b21257bddf"),
        KnownAnswer(
            "case 3", key: key, nonce: nonce, plain: plain, sealed: sealed128,
            tag: "4d5c2af327cd64a62cf35abd2ba6fab4"),
        KnownAnswer(
            "case 4", key: key, nonce: nonce, associated: associated, plain: String(plain.dropLast(8)),
            sealed: String(sealed128.dropLast(8)), tag: "5bc94fbc3221a5db94fae95ae7121a47"),
        KnownAnswer(
            "case 13", key: zeroBlock + zeroBlock, nonce: zeroNonce, tag: "530f8afbc74536b9a963b4f1c4cb738b"),
        KnownAnswer(
            "case 14", key: zeroBlock + zeroBlock, nonce: zeroNonce, plain: zeroBlock,
            sealed: "cea7403d4d606b6e074ec5d3baf39d18", tag: "d0d1c8a799996bf0265b98b5d48ab919"),
        KnownAnswer(
            "case 15", key: key + key, nonce: nonce, plain: plain, sealed: sealed256,
            tag: "b094dac5d93471bdec1a502270e3cc6c"),
        KnownAnswer(
            "case 16", key: key + key, nonce: nonce, associated: associated, plain: String(plain.dropLast(8)),
            sealed: String(sealed256.dropLast(8)), tag: "76fc6ece0f4e1768cddf8853bb2d551b"),
    ]
}

private func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = hexadecimal.compactMap { $0.hexDigitValue.map(UInt8.init) }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
