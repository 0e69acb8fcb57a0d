import COpenSSL
import Linux
import Synchronization
import TestSupport
import Testing

@testable import TLS

/// Each test in a process of its own, for what it looks at happens once a process.
struct LibraryTests {
    @Test func `nothing of ours needs the process-wide libcrypto context`() async {
        await #expect(processExitsWith: .success) {
            Realm.chooseAES()
            // Loading a provider ends the automatic loading of "default": whoever looks there now finds nothing.
            unsafe try #require(OSSL_PROVIDER_load(nil, "null") != nil)
            unsafe try #require(EVP_MD_fetch(nil, "SHA256", nil) == nil)
            for (index, use) in LibraryTests.uses.enumerated() {
                #expect(throws: Never.self, "use \(index)") { try use() }
            }
        }
    }

    @Test(arguments: 0..<8)
    func `its first use may come from any number of threads at once`(start: Int) async {
        await #expect(processExitsWith: .success) { [start] in
            Realm.chooseAES()
            let failures = Mutex<[String]>([])
            let waiting = Atomic(LibraryTests.uses.count)
            let threads = try LibraryTests.uses.indices.map { index in
                try Thread.start(name: "use \(index)") {
                    waiting.subtract(1, ordering: .acquiringAndReleasing)
                    while waiting.load(ordering: .acquiring) > 0 {}
                    let use = LibraryTests.uses[(index + start) % LibraryTests.uses.count]
                    do { try use() } catch { failures.withLock { $0.append("\(error)") } }
                }
            }
            for thread in threads { thread.join() }
            #expect(failures.withLock { $0 } == [])
        }
    }

    /// Every way into the module that ends in libcrypto.
    static let uses: [@Sendable () throws -> Void] = [
        { _ = try MessageAuthentication.code(for: [1], key: [2]) },
        { _ = try Library.shared.digest(.sha1, of: []) },
        { _ = try PrivateKey(pem: PrivateKey.generate().pem()) },
        {
            let request = try CertificateRequest.make(key: .generate(), uri: "spiffe://a/ns/b/sa/c")
            _ = try CertificateRequest(pem: request.pem)
        },
        {
            let realm = try Realm()
            _ = try Certificate.all(inPEM: realm.authority.certificate.pem)
        },
        {
            let realm = try Realm()
            let pair = try Pair(
                client: realm.client(realm.bundle("alice")), server: realm.server(realm.bundle("bob")),
                expecting: [realm.uri("bob")])
            try pair.establish()
            pair.client.renewKeys()
            try pair.client.write([1, 2, 3])
            try #require(try pair.server.readAll(pair.client.takeOutput()).plain == [1, 2, 3])
        },
        {
            let realm = try Realm()
            let pair = try Pair(
                client: .controlClient(nil, roots: realm.authority.roots),
                server: .controlServer(
                    realm.bundle("control", hosts: ["control.mesh"]), clientRoots: realm.authority.roots),
                serverName: "control.mesh")
            try pair.establish()
        },
        {
            let realm = try Realm()
            let alice = try realm.bundle("alice").leaf
            let list = try Foreign.revocations(realm, of: [alice])
            try #require(list.revokedSerial(in: [alice, realm.authority.certificate]) == alice.serial)
        },
    ]
}
