import Address
import Testing

struct AddressTests {
    static let texts: [(given: String, canonical: String)] = [
        ("0.0.0.0", "0.0.0.0"), ("10.1.2.3", "10.1.2.3"), ("255.255.255.255", "255.255.255.255"),
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("::ffff:1.2.3.4", "::ffff:102:304"),
        ("fe80::a:0:0:1", "fe80::a:0:0:1"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ]

    @Test(arguments: texts)
    func `reads and writes the canonical form`(row: (given: String, canonical: String)) throws {
        let address = try #require(IPAddress(row.given))
        #expect(address.description == row.canonical)
        #expect(IPAddress(row.canonical) == address)
        #expect(IPAddress(bytes: address.bytes) == address)
    }

    @Test(arguments: [
        "", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.-4", "1.2.3.4 ", ":", ":::", "1:",
        ":1", "1::2::3",
        "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7", "12345::", "g::", "::1.2.3", "::1.2.3.4:5", "fe80::1%eth0",
        "1:2:3:4:5:6:7:1.2.3.4",
        "0x7f.0.0.1", "1:2:3:4::5:6:7:8",
    ])
    func `refuses what is no address`(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func `a mapped address is canonically an IPv4 address`() throws {
        let mapped = try #require(IPAddress("::ffff:10.0.0.1"))
        #expect(!mapped.isIPv4)
        #expect(mapped.canonical == IPAddress("10.0.0.1"))
        #expect(IPAddress("10.0.0.1")?.ipv6.low == mapped.ipv6.low)
        #expect(IPAddress("::1")?.canonical == .loopbackIPv6)
    }

    @Test func `knows the special ranges`() throws {
        #expect(IPAddress("127.9.9.9")?.isLoopback == true && IPAddress("::1")?.isLoopback == true)
        #expect(IPAddress("169.254.1.1")?.isLinkLocal == true && IPAddress("fe80::1")?.isLinkLocal == true)
        #expect(IPAddress("febf::1")?.isLinkLocal == true && IPAddress("fec0::1")?.isLinkLocal == false)
        #expect(IPAddress("224.0.0.1")?.isMulticast == true && IPAddress("ff02::1")?.isMulticast == true)
        #expect(IPAddress("0.0.0.0")?.isUnspecified == true && IPAddress("::")?.isUnspecified == true)
    }

    @Test func `a socket address needs its port and brackets`() {
        #expect(SocketAddress("10.0.0.1:80")?.description == "10.0.0.1:80")
        #expect(SocketAddress("[::1]:15008")?.description == "[::1]:15008")
        for bad in [
            "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:+1", "::1:80", "[10.0.0.1]:80", "[::1]",
            "[::1:80", "10.0.0.1:080",
        ] {
            #expect(SocketAddress(bad) == nil, "\(bad)")
        }
    }

    @Test func `a prefix holds exactly its range`() throws {
        let ten = try #require(Prefix("10.0.0.0/8"))
        #expect(try ten.contains(#require(IPAddress("10.255.0.1"))))
        #expect(try !ten.contains(#require(IPAddress("11.0.0.0"))))
        #expect(try ten.contains(#require(IPAddress("::ffff:10.0.0.1"))))
        #expect(try !ten.contains(#require(IPAddress("::10.0.0.1"))))
        #expect(Prefix("10.9.8.7/8") == ten)
        let everything = try #require(Prefix("::/0"))
        #expect(try everything.contains(#require(IPAddress("fd00::1"))))
        #expect(try !everything.contains(#require(IPAddress("10.0.0.1"))))
        let odd = try #require(Prefix("fd00:1:2:3:8000::/65"))
        #expect(try odd.contains(#require(IPAddress("fd00:1:2:3:8000::1"))))
        #expect(try !odd.contains(#require(IPAddress("fd00:1:2:3:7000::1"))))
        #expect(Prefix("10.0.0.1")?.length == 32 && Prefix("::1")?.length == 128)
        for bad in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/08", "/8", "10.0.0.0/-1"] {
            #expect(Prefix(bad) == nil, "\(bad)")
        }
    }
}
