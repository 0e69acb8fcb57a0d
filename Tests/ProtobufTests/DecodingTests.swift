import Protobuf
import TestMessages
import TestSupport
import Testing

private typealias Everything = Warren_Test_Everything
private typealias Leaf = Warren_Test_Leaf
private typealias Nested = Warren_Test_Nested
private typealias Something = Warren_Test_Something

/// A tag as it is written.
private func tag(_ number: UInt64, _ type: WireType) -> [UInt8] {
    varint(number << 3 | UInt64(type.rawValue))
}

private func varint(_ value: UInt64) -> [UInt8] {
    value < 128 ? [UInt8(value)] : [UInt8(value & 0x7f) | 0x80] + varint(value >> 7)
}

private func delimited(_ number: UInt64, _ bytes: [UInt8]) -> [UInt8] {
    tag(number, .lengthDelimited) + varint(UInt64(bytes.count)) + bytes
}

struct DecodingTests {
    @Test func `reads the documentation's examples`() throws {
        #expect(try Everything(serializedBytes: [0x18, 0x96, 0x01]).int32Field == 150)
        let text = try Everything(serializedBytes: [0x72, 0x07] + Array("testing".utf8))
        #expect(text.stringField == "testing")
        // -2 of sint32 is 3; of int32 it is ten bytes.
        #expect(try Everything(serializedBytes: [0x38, 0x03]).sint32Field == -2)
        let negative = [0x18, 0xfe] + [UInt8](repeating: 0xff, count: 8) + [0x01]
        #expect(try Everything(serializedBytes: negative).int32Field == -2)
    }

    @Test func `writes nothing for an empty message, and defaults only where there is presence`() {
        #expect(Everything().serializedBytes() == [])
        var message = Everything()
        message.optionalInt32 = 0
        message.choiceNumber = 0
        #expect(message.serializedBytes() == tag(23, .varint) + [0] + tag(71, .varint) + [0])
        message.clearOptionalInt32()
        #expect(!message.hasOptionalInt32)
    }

    @Test func `drops the bits that a 32-bit type has no room for`() throws {
        let value = varint(1 << 35 | 3)
        #expect(try Everything(serializedBytes: tag(3, .varint) + value).int32Field == 3)
        #expect(try Everything(serializedBytes: tag(5, .varint) + value).uint32Field == 3)
        #expect(try Everything(serializedBytes: tag(7, .varint) + value).sint32Field == -2)
    }

    @Test func `keeps the sign of zero`() throws {
        var message = Everything()
        message.doubleField = -0.0
        #expect(try Everything(serializedBytes: message.serializedBytes()).doubleField.sign == .minus)
    }

    @Test func `takes lists packed and unpacked, whatever was declared, and mixed`() throws {
        let packed = delimited(43, [1, 2, 3])
        let unpacked = tag(43, .varint) + [4] + tag(43, .varint) + [5]
        #expect(try Everything(serializedBytes: packed + unpacked).int32s == [1, 2, 3, 4, 5])
        #expect(try Everything(serializedBytes: delimited(58, [7, 8])).unpackedInt32s == [7, 8])
    }

    @Test func `writes lists as declared`() {
        var message = Everything()
        message.int32s = [1, 2]
        message.unpackedInt32s = [1, 2]
        let unpacked = tag(58, .varint) + [1] + tag(58, .varint) + [2]
        #expect(message.serializedBytes() == delimited(43, [1, 2]) + unpacked)
    }

    @Test func `takes the last of several scalars and merges sub-messages`() throws {
        let bytes =
            delimited(17, delimited(1, Array("a".utf8)) + delimited(3, [1]))
            + delimited(14, Array("first".utf8)) + delimited(14, Array("last".utf8))
            + delimited(17, tag(2, .varint) + [9] + delimited(3, [2]))
        let message = try Everything(serializedBytes: bytes)
        #expect(message.stringField == "last")
        #expect(message.leaf.name == "a")
        #expect(message.leaf.count == 9)
        #expect(message.leaf.numbers == [1, 2])
    }

    @Test func `a oneof holds its last member, and merges a message that comes twice`() throws {
        let leaf = delimited(73, delimited(1, Array("a".utf8))) + delimited(73, tag(2, .varint) + [1])
        let merged = try Everything(serializedBytes: tag(71, .varint) + [1] + leaf)
        var expected = Leaf()
        expected.name = "a"
        expected.count = 1
        #expect(merged.choice == .choiceLeaf(expected))
        #expect(try Everything(serializedBytes: leaf + tag(71, .varint) + [2]).choice == .choiceNumber(2))
    }

    @Test func `a map takes the last value of a key, and defaults for what an entry leaves out`() throws {
        func entry(_ bytes: [UInt8]) -> [UInt8] { delimited(61, bytes) }
        let k = delimited(1, Array("k".utf8))
        let bytes =
            entry(k + delimited(2, Array("1".utf8))) + entry(k + delimited(2, Array("2".utf8))) + entry([])
            // A field that entries do not have, a key of another type, and the value before the key.
            + entry(
                tag(9, .varint) + [1] + tag(1, .varint) + [1] + delimited(2, Array("v".utf8))
                    + delimited(1, [0x6a]))
        let message = try Everything(serializedBytes: bytes)
        #expect(message.stringToString == ["k": "2", "": "", "j": "v"])
    }

    @Test func `writes maps by key`() {
        var message = Everything()
        message.stringToString = ["b": "", "a": "", "é": "", "Z": ""]
        message.boolToBytes = [true: [], false: []]
        let keys = ["Z", "a", "b", "é"].flatMap {
            delimited(61, delimited(1, Array($0.utf8)) + delimited(2, []))
        }
        let bools = [0, 1].flatMap { delimited(63, tag(1, .varint) + [$0] + delimited(2, [])) }
        #expect(message.serializedBytes() == keys + bools)
    }

    @Test func `keeps enum numbers without a name`() throws {
        let message = try Everything(serializedBytes: tag(16, .varint) + [99])
        #expect(message.colour == .UNRECOGNIZED(99))
        #expect(message.serializedBytes() == tag(16, .varint) + [99])
        let negative = try Everything(
            serializedBytes: tag(16, .varint) + [UInt8](repeating: 0xff, count: 9) + [1])
        #expect(negative.colour == .negative)
    }

    @Test func `keeps unknown fields byte for byte, groups and odd spellings included`() throws {
        let group =
            tag(100, .startGroup) + delimited(1, [1, 2]) + tag(5, .startGroup) + tag(5, .endGroup)
            + tag(100, .endGroup)
        let padded: [UInt8] = tag(101, .varint) + [0x81, 0x80, 0x00]
        let wrongType = tag(14, .varint) + [7]
        let bytes = group + padded + wrongType + tag(102, .fixed32) + [1, 2, 3, 4]
        let message = try Something(serializedBytes: bytes + delimited(14, [0x61]))
        #expect(message.stringField == "a")
        #expect(message.unknownFields.data == bytes)
        #expect(message.serializedBytes() == delimited(14, [0x61]) + bytes)
    }

    @Test func `what a smaller type does not know survives it`() throws {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<50 {
            let message = Everything.random(&random)
            let through = try Something(serializedBytes: message.serializedBytes())
            #expect(try Everything(serializedBytes: through.serializedBytes()) == message)
        }
    }

    @Test(arguments: 0..<100 as Range<UInt64>)
    func `reads what it wrote`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let message = Everything.random(&random)
        let bytes = message.serializedBytes()
        let again = try Everything(serializedBytes: bytes)
        #expect(again == message)
        #expect(again.serializedBytes() == bytes)
    }
}

struct MalformedInputTests {
    private static func nested(_ depth: Int) -> [UInt8] {
        (0..<depth).reduce([]) { bytes, _ in delimited(1, bytes) }
    }

    static let rows: [(String, [UInt8], BinaryDecodingError)] = [
        ("ends inside a tag", [0x80], .truncated),
        ("ends behind a tag", tag(3, .varint), .truncated),
        ("ends inside a fixed32", tag(9, .fixed32) + [1, 2, 3], .truncated),
        ("ends inside a fixed64", tag(1, .fixed64) + [1, 2, 3, 4, 5, 6, 7], .truncated),
        ("a length past the end", tag(14, .lengthDelimited) + [5, 0x61], .truncated),
        (
            "a length of 2^63", tag(14, .lengthDelimited) + [UInt8](repeating: 0x80, count: 9) + [1],
            .truncated
        ),
        ("a sub-message past its parent", delimited(17, tag(1, .lengthDelimited) + [1]), .truncated),
        ("a packed list that ends in a number", delimited(43, [0x80]), .truncated),
        ("a packed list of broken width", delimited(49, [1, 2, 3, 4, 5]), .truncated),
        (
            "a varint of eleven bytes", tag(3, .varint) + [UInt8](repeating: 0x80, count: 10) + [0],
            .malformedVarint
        ),
        (
            "a varint of 65 bits", tag(3, .varint) + [UInt8](repeating: 0xff, count: 9) + [2],
            .malformedVarint
        ),
        ("field 0", [0x00, 0x00], .malformedTag(0)),
        ("wire type 6", [0x0e], .malformedTag(0x0e)),
        ("wire type 7", [0x0f], .malformedTag(0x0f)),
        ("a tag of 33 bits", varint(1 << 32 | 8) + [0], .malformedTag(1 << 32 | 8)),
        ("an end without a group", tag(3, .endGroup), .unbalancedGroup(field: 3)),
        ("a group that another ends", tag(90, .startGroup) + tag(91, .endGroup), .unbalancedGroup(field: 91)),
        ("a group without end", tag(90, .startGroup), .truncated),
        ("text that is not UTF-8", delimited(14, [0xff]), .invalidUTF8(field: 14)),
        ("text with a surrogate", delimited(14, [0xed, 0xa0, 0x80]), .invalidUTF8(field: 14)),
        ("text with an overlong slash", delimited(54, [0xc0, 0xaf]), .invalidUTF8(field: 54)),
        ("a map key that is not UTF-8", delimited(61, delimited(1, [0xfe])), .invalidUTF8(field: 1)),
    ]

    @Test(arguments: rows)
    func `refuses`(row: (title: String, bytes: [UInt8], error: BinaryDecodingError)) {
        #expect(throws: row.error, "\(row.title)") { try Everything(serializedBytes: row.bytes) }
    }

    @Test func `refuses messages nested too deep, known or not, and takes those at the limit`() throws {
        #expect(try Nested(serializedBytes: Self.nested(100)).hasChild)
        #expect(throws: BinaryDecodingError.messageDepthLimit) {
            try Nested(serializedBytes: Self.nested(101))
        }
        let groups = (0..<101).flatMap { _ in tag(90, .startGroup) }
        #expect(throws: BinaryDecodingError.messageDepthLimit) { try Nested(serializedBytes: groups) }
        let half = tag(90, .startGroup) + tag(90, .endGroup)
        #expect(
            try Nested(serializedBytes: (0..<1_000).flatMap { _ in half }).unknownFields.data.count == 4_000)
    }

    @Test func `refuses more messages than the limit`() throws {
        var options = BinaryDecodingOptions()
        options.messageCountLimit = 10
        let leaves = { (count: Int) in (0..<count).flatMap { _ in delimited(57, []) } }
        #expect(try Everything(serializedBytes: leaves(10), options: options).leaves.count == 10)
        #expect(throws: BinaryDecodingError.messageCountLimit) {
            try Everything(serializedBytes: leaves(11), options: options)
        }
        #expect(throws: BinaryDecodingError.messageCountLimit) {
            try Everything(serializedBytes: leaves(10) + delimited(61, []), options: options)
        }
    }

    @Test func `refuses more bytes than the limit`() {
        var options = BinaryDecodingOptions()
        options.byteLimit = 4
        #expect(throws: BinaryDecodingError.tooLarge(byteCount: 5)) {
            try Everything(serializedBytes: delimited(14, [0x61, 0x61, 0x61]).prefix(5), options: options)
        }
    }
}

/// Inputs that were valid until something bent them: whatever comes out, the process lives, and what is accepted can be
/// written and read again.
struct MutationTests {
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `survives mutated input`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var corpus: [[UInt8]] = []
        while corpus.count < 20 {
            let bytes =
                corpus.count % 2 == 0
                ? Everything.random(&random).serializedBytes() : Nested.random(&random).serializedBytes()
            if bytes.count < 800 { corpus.append(bytes) } else { corpus.append(Array(bytes.prefix(800))) }
        }
        var accepted = 0
        for _ in 0..<25_000 {
            let bytes = Self.mutated(corpus, &random)
            if let message = try? Everything(serializedBytes: bytes) {
                accepted += 1
                let again = try Everything(serializedBytes: message.serializedBytes())
                #expect(again.serializedBytes() == message.serializedBytes(), "seed \(seed)")
            }
            _ = try? Nested(serializedBytes: bytes)
        }
        #expect(accepted > 100)
    }

    private static func mutated(_ corpus: [[UInt8]], _ random: inout SeededGenerator) -> [UInt8] {
        var bytes = corpus[Int.random(in: 0..<corpus.count, using: &random)]
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let at = Int.random(in: 0...bytes.count, using: &random)
            switch random.next() % 6 {
            case 0 where at < bytes.count: bytes[at] ^= 1 << UInt8(random.next() % 8)
            case 1 where at < bytes.count: bytes[at] = UInt8(truncatingIfNeeded: random.next())
            case 2: bytes.insert(contentsOf: random.bytes(atMost: 8), at: at)
            case 3: bytes.removeSubrange(at..<min(bytes.count, at + Int(random.next() % 8)))
            case 4: bytes.removeSubrange(at...)
            default:
                let other = corpus[Int.random(in: 0..<corpus.count, using: &random)]
                bytes.insert(
                    contentsOf: other.prefix(Int.random(in: 0...other.count, using: &random)), at: at)
            }
        }
        return bytes
    }
}
