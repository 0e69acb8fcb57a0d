import Address
import Mesh
import Testing

struct PolicyTests {
    @Test(arguments: [
        // Equal as text (Unicode, canonical equivalence), of different and of the same length in bytes.
        ("\u{e9}", "e\u{301}"), ("e\u{323}\u{307}", "e\u{307}\u{323}"),
    ])
    func `two spellings of a name are not one`(_ one: String, _ other: String) {
        #expect(one == other)
        #expect(Policy.StringMatch.exact(one).matches(one) && !Policy.StringMatch.exact(one).matches(other))
        #expect(
            !Policy.StringMatch.prefix(one).matches(other) && !Policy.StringMatch.suffix(one).matches(other))
    }

    @Test func `a match is empty only while nothing at all is set`() throws {
        var matches = Array(repeating: Policy.Match(), count: 12)
        let prefix = try #require(Prefix("10.0.0.0/8"))
        let account = Policy.ServiceAccountMatch(namespace: "a", serviceAccount: "b")
        matches[0].namespaces = [.presence]
        matches[1].notNamespaces = [.presence]
        matches[2].principals = [.presence]
        matches[3].notPrincipals = [.presence]
        matches[4].sourceIPs = [prefix]
        matches[5].notSourceIPs = [prefix]
        matches[6].destinationIPs = [prefix]
        matches[7].notDestinationIPs = [prefix]
        matches[8].destinationPorts = [80]
        matches[9].notDestinationPorts = [80]
        matches[10].serviceAccounts = [account]
        matches[11].notServiceAccounts = [account]
        #expect(Policy.Match().isEmpty && matches.allSatisfy { !$0.isEmpty })
    }
}
