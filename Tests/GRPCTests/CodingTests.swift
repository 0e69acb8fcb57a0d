import HTTP2
import Testing

@testable import GRPC

struct CodingTests {
    static let messages: [(String, String)] = [
        ("plain", "plain"), ("50%", "50%25"), ("ä\n", "%C3%A4%0A"), (" a b ", "%20a b%20"), ("", ""),
        (" ", "%20"),
    ]

    @Test(arguments: messages)
    func `grpc-message is percent-encoded`(row: (text: String, encoded: String)) {
        #expect(PercentEncoding.encode(row.text) == row.encoded)
        #expect(PercentEncoding.decode(row.encoded) == row.text)
    }

    @Test func `malformed escapes stay as they are`() {
        #expect(PercentEncoding.decode("%4") == "%4")
        #expect(PercentEncoding.decode("%zz%41") == "%zzA")
        #expect(PercentEncoding.decode("%") == "%")
    }

    static let timeouts: [(Duration, String)] = [
        (.nanoseconds(1), "1n"), (.milliseconds(1), "1000000n"), (.seconds(1), "1000000u"),
        (.seconds(100), "100000m"), (.seconds(1_000_000), "1000000S"), (.seconds(-5), "0n"), (.zero, "0n"),
        (.seconds(60 * 99_999_999), "99999999M"), (.seconds(Int64.max), "2562047H"),
    ]

    @Test(arguments: timeouts)
    func `timeouts are coded in the finest unit that holds them`(row: (timeout: Duration, text: String)) {
        #expect(GRPCTimeout.encode(row.timeout) == row.text)
        if row.timeout >= .zero, row.timeout < .seconds(Int64.max) {
            #expect(GRPCTimeout.decode(row.text) == row.timeout)
        }
    }

    @Test(arguments: ["", "1", "S", "123456789S", "-1S", "+1S", "1s", "1 S", "1.5S"])
    func `malformed timeouts are refused`(text: String) {
        #expect(GRPCTimeout.decode(text) == nil)
    }

    @Test func `the longest timeout does not overflow`() {
        #expect(GRPCTimeout.decode("99999999H") == .nanoseconds(Int64.max))
    }

    @Test(arguments: ["//79", "AA==", "AA"]) func `binary metadata is read with padding and without`(
        text: String
    ) {
        let metadata: GRPCMetadata = ["a-bin": text]
        #expect(metadata.binary("a-bin")?.first == (text == "//79" ? 0xff : 0))
    }

    @Test func `metadata leaves out what belongs to the protocol`() {
        let block: HeaderBlock = [
            Header(":status", "200"), Header("content-type", "application/grpc"),
            Header("grpc-encoding", "x"),
            Header("te", "trailers"), Header("x-a", "1"), Header("x-b-bin", "Zm9v"),
        ]
        let metadata = GRPCMetadata(block)
        #expect(metadata.count == 2)
        #expect(metadata["x-a"] == "1")
        #expect(metadata.binary("x-b-bin") == Array("foo".utf8))
        var forged: GRPCMetadata = ["grpc-status": "0", ":path": "/", "X-Ok": " a\r\nb "]
        forged.append("x-raw-bin", binary: [0, 255])
        var sent = HeaderBlock()
        forged.append(to: &sent)
        #expect(sent.map(\.name) == ["x-ok", "x-raw-bin"])
        #expect(sent["x-ok"] == "a??b")
    }
}
