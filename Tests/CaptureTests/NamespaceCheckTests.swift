import Address
import Foundation
import Linux
import Testing

@testable import Capture

struct NamespaceCheckTests {
    static let own = NetworkNamespace.Identity(device: 4, inode: 100)
    static let host = NetworkNamespace.Identity(device: 4, inode: 1)
    static let first = NetworkNamespace.Identity(device: 4, inode: 0xefff_fff9)
    static let pods = NetworkNamespace.Identity(device: 4, inode: 200)
    static let a = IPAddress(ipv4: 0x0a62_0102)
    static let b = IPAddress(ipv6High: 0xfd98_0001_0000_0000, low: 2)

    static let rows:
        [(String, NetworkNamespace.Identity, [IPAddress], [IPAddress], String?, NamespaceRefusal?)] = [
            ("all addresses are there", pods, [a, b], [a, b, .loopbackIPv4], nil, nil),
            ("the daemon's own", own, [a], [a], nil, .daemonsOwn(name: "n")),
            ("the host's", host, [a], [a], nil, .hosts(name: "n")),
            ("the kernel's first", first, [a], [a], nil, .hosts(name: "n")),
            ("held by another", pods, [a], [a], "shop/cart", .held(name: "n", by: "shop/cart")),
            ("no address to go by", pods, [], [a], nil, .noAddress(name: "n")),
            (
                "one address missing", pods, [a, b], [a], nil,
                .lacksAddress(name: "n", missing: [b], present: [a])
            ),
            (
                "a loopback address proves nothing", pods, [.loopbackIPv4], [.loopbackIPv4], nil,
                .lacksAddress(name: "n", missing: [.loopbackIPv4], present: [])
            ),
        ]

    @Test(arguments: rows)
    func `accepts or refuses`(
        row: (
            title: String, identity: NetworkNamespace.Identity, addresses: [IPAddress], present: [IPAddress],
            holder: String?, refusal: NamespaceRefusal?
        )
    ) {
        let check = NamespaceCheck(own: Self.own, host: Self.host)
        let refusal = check.refusal(
            "n", row.identity, addresses: row.addresses, present: row.present, holder: row.holder)
        #expect(refusal == row.refusal, "\(row.title)")
    }

    @Test func `names what is missing and what to do`() {
        let refusal = NamespaceRefusal.lacksAddress(name: "pod-a", missing: [Self.b], present: [Self.a])
        #expect(
            refusal.description
                == "pod-a does not hold fd98:1::2 (it holds 10.98.1.2); correct the workload's status.podIPs "
                + "or its namespace")
    }
}

@Suite(.enabled(if: NamespaceLab.isRoot, "needs root, for network namespaces"))
struct NamespaceCheckOfTheSystemTests {
    private func refusal(_ name: String, _ addresses: [String], holder: String? = nil) throws
        -> NamespaceRefusal?
    {
        let check = try NamespaceCheck.forThisProcess()
        do throws(NamespaceRefusal) {
            _ = try check.open(name, addresses: addresses.compactMap { IPAddress($0) }) { _ in holder }
            return nil
        } catch {
            return error
        }
    }

    @Test func `accepts the workload's namespace, by name and by path`() throws {
        let lab = try NamespaceLab()
        #expect(try refusal(lab.pod, ["10.98.1.2", "fd98:1::2"]) == nil)
        #expect(try refusal("/run/netns/\(lab.pod)", ["10.98.1.2"]) == nil)
    }

    @Test func `refuses another pod's, the host's, and one that is held`() throws {
        let lab = try NamespaceLab()
        let missing = try #require(try refusal(lab.peer, ["10.98.1.2"]))
        guard case .lacksAddress = missing else {
            Issue.record("\(missing)")
            return
        }
        let own = try #require(try refusal("/proc/thread-self/ns/net", ["10.98.1.2"]))
        #expect(
            [.hosts(name: "/proc/thread-self/ns/net"), .daemonsOwn(name: "/proc/thread-self/ns/net")]
                .contains(own), "the tests may run on the host's network or on their own")
        #expect(try refusal(lab.pod, ["10.98.1.2"], holder: "a/b") == .held(name: lab.pod, by: "a/b"))
    }

    @Test func `refuses a namespace of other users`() throws {
        let answer = try run(
            "unshare", "--user", "--map-root-user", "--net", "sh", "-c",
            "ip link set lo up; ip addr add 10.98.1.2/32 dev lo; echo $$; read done"
        ) { pid in
            let path = "/proc/\(pid.prefix { $0.isNumber })/ns/net"
            let refused = try refusal(path, ["10.98.1.2"])
            #expect(refused == .foreignUsers(name: path))
        }
        #expect(!answer.isEmpty)
    }

    @Test(arguments: [
        "/proc/self/ns/mnt", "/dev/null", "/etc/passwd", "no-such-namespace", "../etc/passwd", "",
    ])
    func `refuses what is no network namespace`(name: String) throws {
        let refusal = try #require(try refusal(name, ["10.98.1.2"]))
        guard case .unusable = refusal else {
            Issue.record("\(refusal)")
            return
        }
    }
}
