/// XXH64, a published hash of 64 bits that is quick and not cryptographic (xxHash specification, doc/xxhash_spec.md of Cyan4973/xxHash): every
/// program, everywhere, gets the same number for the same bytes.
enum XXHash64 {
    private static let p1: UInt64 = 0x9e37_79b1_85eb_ca87
    private static let p2: UInt64 = 0xc2b2_ae3d_27d4_eb4f
    private static let p3: UInt64 = 0x1656_67b1_9e37_79f9
    private static let p4: UInt64 = 0x85eb_ca77_c2b2_ae63
    private static let p5: UInt64 = 0x27d4_eb2f_1656_67c5

    static func hash(_ text: String, seed: UInt64 = 0) -> UInt64 {
        var text = text
        return text.withUTF8 { unsafe hash(UnsafeRawBufferPointer($0), seed: seed) }
    }

    static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
        let count = bytes.count
        var at = 0
        func word() -> UInt64 {
            defer { at += 8 }
            return unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        }
        var sum: UInt64
        if count >= 32 {
            var lanes = (seed &+ p1 &+ p2, seed &+ p2, seed, seed &- p1)
            while count - at >= 32 {
                lanes.0 = round(lanes.0, word())
                lanes.1 = round(lanes.1, word())
                lanes.2 = round(lanes.2, word())
                lanes.3 = round(lanes.3, word())
            }
            sum =
                rotate(lanes.0, 1) &+ rotate(lanes.1, 7) &+ rotate(lanes.2, 12) &+ rotate(lanes.3, 18)
            sum = merge(sum, lanes.0)
            sum = merge(sum, lanes.1)
            sum = merge(sum, lanes.2)
            sum = merge(sum, lanes.3)
        } else {
            sum = seed &+ p5
        }
        sum &+= UInt64(count)
        while count - at >= 8 {
            sum = rotate(sum ^ round(0, word()), 27) &* p1 &+ p4
        }
        if count - at >= 4 {
            let half = unsafe UInt32(
                littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
            sum = rotate(sum ^ UInt64(half) &* p1, 23) &* p2 &+ p3
            at += 4
        }
        while at < count {
            sum = unsafe rotate(sum ^ UInt64(bytes[at]) &* p5, 11) &* p1
            at += 1
        }
        sum = (sum ^ sum >> 33) &* p2
        sum = (sum ^ sum >> 29) &* p3
        return sum ^ sum >> 32
    }

    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        rotate(lane &+ word &* p2, 31) &* p1
    }

    private static func merge(_ sum: UInt64, _ lane: UInt64) -> UInt64 {
        (sum ^ round(0, lane)) &* p1 &+ p4
    }

    private static func rotate(_ value: UInt64, _ bits: UInt64) -> UInt64 {
        value << bits | value >> (64 - bits)
    }
}
