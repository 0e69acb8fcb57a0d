import Address
import Linux
import Mesh
import Testing

@testable import Telemetry

struct AccessLineTests {
    private let time = WallClock(seconds: 1_700_000_000, nanoseconds: 12_345_678)

    private func entry(_ name: String, _ namespace: String) throws -> WorkloadEntry {
        var builder = SnapshotBuilder(node: "")
        builder.insert(Workload(uid: name, name: name, namespace: namespace, clusterID: "Kubernetes"))
        return try #require(builder.snapshot().workload(uid: name))
    }

    private func record(reason: CloseReason = .completed) throws -> ConnectionRecord {
        var builder = SnapshotBuilder(node: "")
        let service = Service(name: "server", namespace: "shop", hostname: "server.shop.svc.cluster.local")
        builder.insert(service)
        return ConnectionRecord(
            direction: .outbound,
            source: .init(
                address: SocketAddress("10.0.0.1:40000"), workload: try entry("client-1", "shop"),
                identity: Identity(spiffe: "spiffe://cluster.local/ns/shop/sa/client")),
            destination: .init(
                address: SocketAddress("10.0.0.2:15008"), workload: try entry("server-1", "shop"),
                identity: Identity(spiffe: "spiffe://cluster.local/ns/shop/sa/server")),
            authority: "10.0.0.2:8080", service: builder.snapshot().service(service.key),
            path: .tunnel, bytesFromClient: 84, bytesToClient: 1_000_000,
            duration: .microseconds(13_999), reason: reason)
    }

    private func text(_ record: ConnectionRecord, _ format: AccessFormat = .text) -> String {
        var formatter = AccessLineFormatter(format)
        return String(decoding: formatter.line(record, at: time), as: UTF8.self)
    }

    @Test func `a line has ztunnel's columns and order`() throws {
        #expect(
            text(try record()) == """
                2023-11-14T22:13:20.012345Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:40000 \
                src.workload="client-1" src.namespace="shop" src.identity="spiffe://cluster.local/ns/shop/sa/client" \
                src.cluster="Kubernetes" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 \
                dst.service="server.shop.svc.cluster.local" dst.workload="server-1" dst.namespace="shop" \
                dst.identity="spiffe://cluster.local/ns/shop/sa/server" dst.cluster="Kubernetes" \
                direction="outbound" bytes_sent=84 bytes_recv=1000000 duration="13ms"

                """)
    }

    @Test func `a connection within the node says so, and nothing else is different`() throws {
        var near = try record()
        let tunnelled = text(near)
        near.path = .sameNode
        #expect(
            text(near)
                == tunnelled.replacing(
                    "direction=\"outbound\"", with: "direction=\"outbound\" path=\"same-node\""))
        #expect(text(near, .json).contains("\"path\":\"same-node\""))
    }

    @Test func `bytes are told from the reporter's side`() throws {
        var inbound = try record()
        inbound.direction = .inbound
        #expect(text(inbound).contains("bytes_sent=1000000 bytes_recv=84"))
    }

    @Test func `a failure is an error that says why`() throws {
        let line = text(try record(reason: .unmatchedByAllow))
        #expect(line.contains("\terror\taccess\tconnection complete\t"))
        #expect(
            line.hasSuffix(
                "error=\"connection closed due to policy rejection: allow policies exist, but none allowed\"\n"
            ))
    }

    @Test func `a connection refused before anything is known of it is a warning with its addresses only`() {
        let unknown = ConnectionRecord(
            direction: .inbound, source: .init(address: SocketAddress("10.0.0.1:1")),
            destination: .init(address: SocketAddress("[fd00::2]:15008")),
            reason: .tlsFailed("no certificate"))
        #expect(
            text(unknown).contains(
                "\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.1:1 dst.addr=[fd00::2]:15008 direction="))
    }

    @Test(arguments: [
        "x\" error=\"forged", "a\nb", "a\r\nb", "back\\slash", "\u{1b}[2J", "\u{85}", "\u{2028}",
        "\u{202e}gnp",
        "nul\0", "tab\tbed",
    ])
    func `no value can end itself, its line or its terminal's state`(hostile: String) throws {
        for reason in [CloseReason.failed(hostile), .tlsFailed(hostile)] {
            for format in AccessFormat.allCases {
                let line = text(try record(reason: reason), format)
                #expect(line.utf8.count { $0 == UInt8(ascii: "\n") } == 1 && line.hasSuffix("\n"))
                #expect(
                    !line.unicodeScalars.dropLast().contains {
                        $0.value < 0x20 && $0 != "\t" || $0 == "\u{7f}"
                    })
                #expect(!line.unicodeScalars.contains { ["\u{85}", "\u{2028}", "\u{202e}"].contains($0) })
            }
        }
        var forged = try record()
        forged.authority = hostile
        let line = text(forged)
        #expect(line.filter { $0 == "\t" }.count == 4)
        #expect(!line.contains("error=\"forged"))
    }

    @Test func `JSON holds the same fields`() throws {
        let line = text(try record(reason: .connectTimedOut), .json)
        #expect(
            line.hasPrefix(
                "{\"level\":\"error\",\"time\":\"2023-11-14T22:13:20.012345Z\",\"scope\":\"access\""))
        #expect(line.contains("\"dst.hbone_addr\":\"10.0.0.2:8080\""))
        #expect(line.contains("\"bytes_sent\":84,\"bytes_recv\":1000000,\"duration\":\"13ms\""))
        #expect(line.hasSuffix("\"error\":\"connection failed: deadline has elapsed\"}\n"))
    }

    @Test func `the time is right across seconds`() throws {
        var formatter = AccessLineFormatter(.text)
        let record = try record()
        func stamp(_ seconds: Int64, _ nanoseconds: Int32) -> String {
            let line = formatter.line(record, at: WallClock(seconds: seconds, nanoseconds: nanoseconds))
            return String(decoding: line.prefix(27), as: UTF8.self)
        }
        #expect(stamp(0, 999_999_999) == "1970-01-01T00:00:00.999999Z")
        #expect(stamp(1, 0) == "1970-01-01T00:00:01.000000Z")
        #expect(stamp(1, 1_000) == "1970-01-01T00:00:01.000001Z")
    }
}
