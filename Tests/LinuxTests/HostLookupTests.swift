import Address
import Linux
import Testing

struct HostLookupTests {
    @Test func `finds localhost, and addresses by themselves`() throws {
        #expect(try lookUpHost("localhost").contains { $0.isLoopback })
        #expect(try lookUpHost("127.0.0.1") == [IPAddress("127.0.0.1")])
    }

    @Test func `says which name does not exist`() {
        // RFC 6761 §6.4: this domain never exists.
        #expect { try lookUpHost("nobody.invalid") } throws: { "\($0)".hasPrefix("nobody.invalid: ") }
    }
}
