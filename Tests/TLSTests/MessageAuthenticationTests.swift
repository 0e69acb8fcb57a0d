import TLS
import Testing

struct MessageAuthenticationTests {
    init() { Realm.chooseAES() }

    @Test func `is HMAC-SHA256 (RFC 4231, test cases 2 and 6)`() throws {
        func hex(_ bytes: [UInt8]) -> String {
            bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
        let jefe = try MessageAuthentication.code(
            for: Array("what do ya want for nothing?".utf8), key: Array("Jefe".utf8))
        #expect(hex(jefe) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        let long = try MessageAuthentication.code(
            for: Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
            key: [UInt8](repeating: 0xaa, count: 131))
        #expect(hex(long) == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    }

    @Test func `compares all bytes`() {
        #expect(MessageAuthentication.areEqual([], []))
        #expect(MessageAuthentication.areEqual([1, 2], [1, 2]))
        #expect(!MessageAuthentication.areEqual([1, 2], [1, 3]))
        #expect(!MessageAuthentication.areEqual([1, 2], [2, 2]))
        #expect(!MessageAuthentication.areEqual([1, 2], [1, 2, 3]))
    }
}
