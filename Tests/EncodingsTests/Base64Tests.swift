import Encodings
import TestSupport
import Testing

struct Base64Tests {
    /// RFC 4648 §10, and bytes whose digits differ between the alphabets.
    static let vectors: [(bytes: [UInt8], text: String)] = [
        ([], ""), (Array("f".utf8), "Zg=="), (Array("fo".utf8), "Zm8="), (Array("foo".utf8), "Zm9v"),
        (Array("foob".utf8), "Zm9vYg=="), (Array("fooba".utf8), "Zm9vYmE="),
        (Array("foobar".utf8), "Zm9vYmFy"),
        ([0xfb, 0xff, 0xbf], "+/+/"), ([0xff], "/w=="),
    ]

    @Test(arguments: vectors) func `the vectors of the RFC are written and read`(bytes: [UInt8], text: String)
    {
        #expect(Base64.encode(bytes) == text)
        #expect(Base64.decode(text.utf8) == bytes)
        let bare = String(text.prefix { $0 != "=" })
        #expect(Base64.encode(bytes, isPadded: false) == bare)
        #expect(Base64.decode(bare.utf8, padding: .none) == bytes)
        for spelling in [text, bare] { #expect(Base64.decode(spelling.utf8, padding: .optional) == bytes) }
        if bare != text {
            #expect(Base64.decode(bare.utf8) == nil && Base64.decode(text.utf8, padding: .none) == nil)
        }
    }

    @Test func `the alphabet of addresses has no digit of the other's last two`() {
        #expect(Base64.encode([0xfb, 0xff, 0xbf] as [UInt8], .url) == "-_-_")
        #expect(Base64.decode("-_-_".utf8, .url) == [0xfb, 0xff, 0xbf])
        #expect(Base64.decode("-_-_".utf8) == nil && Base64.decode("+/+/".utf8, .url) == nil)
    }

    @Test(arguments: [
        "a", "aGVsbG", "aGVsbG8", "aGVsbG8==", "aGVsbG9=", "aGVsbA=", "aGV=sbG8=", "aGVs bG8=", "aGVs\nbG8=",
        "=", "====",
        "aGVsbG8=====", "a===", "aGVs*G8=", "é",
    ]) func `what has no one meaning is refused`(text: String) {
        #expect(Base64.decode(text.utf8) == nil)
    }

    @Test func `whatever bytes come back`() {
        var random = SeededGenerator(seed: 5)
        for count in 0..<300 {
            let bytes = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            #expect(Base64.decode(Base64.encode(bytes).utf8) == bytes)
            #expect(
                Base64.decode(Base64.encode(bytes, .url, isPadded: false).utf8, .url, padding: .none) == bytes
            )
        }
    }
}
