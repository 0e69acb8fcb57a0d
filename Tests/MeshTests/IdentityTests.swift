import Mesh
import Testing

struct IdentityTests {
    @Test func `reads Istio's path and writes it back`() throws {
        let identity = try #require(Identity(spiffe: "spiffe://cluster.local/ns/shop/sa/cart"))
        #expect(identity == Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart"))
        #expect(identity.principal == "cluster.local/ns/shop/sa/cart")
        #expect(identity.uri == "spiffe://cluster.local/ns/shop/sa/cart")
    }

    @Test(arguments: [
        "", "spiffe://", "spiffe://td", "spiffe://td/ns/a/sa", "spiffe://td/ns/a/sa/b/c",
        "spiffe://td/ns/a/sa/b/",
        "spiffe:///ns/a/sa/b", "spiffe://td/ns//sa/b", "spiffe://td/sa/a/ns/b", "SPIFFE://td/ns/a/sa/b",
        "http://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b?x", "spiffe://td/ns/a/sa/b#x", "spiffe://td/ns/a%2f/sa/b",
        "spiffe://td:80/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b ", "spiffe://td/ns/a/sa/b\u{0}", "spiffe://td/ns/a/sa/\u{212A}",
        " spiffe://td/ns/a/sa/b",
        "spiffe://td/warren/node/n1",
    ])
    func `refuses anything else`(uri: String) {
        #expect(Identity(spiffe: uri) == nil)
    }
}
