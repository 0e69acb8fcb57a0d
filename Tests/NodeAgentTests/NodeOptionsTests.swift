import Daemon
import Discovery
import Log
import Options
import TLS
import Testing
import Transport

@testable import NodeAgent

struct NodeOptionsTests {
    private let required = ["--node", "node-a", "--control", "10.0.0.1:15012"]

    private func configuration(
        _ words: [String], _ environment: [String: String] = [:]
    ) throws -> NodeConfiguration {
        switch NodeOptions.command.parse(words, environment: { environment[$0] }) {
        case .run(let invocation): return try NodeConfiguration(invocation)
        case .answer: throw InvalidOptions(problems: [])
        case .invalid(let problems): throw InvalidOptions(problems: problems)
        }
    }

    @Test func `a node needs its name and its control component`() throws {
        let given = try configuration(required)
        #expect(given.node == "node-a" && given.control == "10.0.0.1:15012")
        #expect(given.roots == .file("./var/run/secrets/istio/root-cert.pem"))
        #expect(given.userID == NodeConfiguration.defaultUserID)
        #expect(throws: InvalidOptions.self) { try configuration([]) }
    }

    @Test func `encryption on the same node is a wish`() throws {
        #expect(try !configuration(required).encryptsOnSameNode)
        #expect(try configuration(required + ["--encrypt-same-node"]).encryptsOnSameNode)
        #expect(try configuration(required, ["WARREN_ENCRYPT_SAME_NODE": "true"]).encryptsOnSameNode)
    }

    @Test func `records are sealed by the daemon itself unless libssl is asked to`() throws {
        #expect(try configuration(required).tlsRecords == .own)
        #expect(try configuration(required + ["--tls-records", "libssl"]).tlsRecords == .libssl)
        let given = try configuration(required, ["WARREN_TLS_RECORDS": "libssl"])
        #expect(given.tlsRecords == .libssl && given.discovery.tlsRecords == .libssl)
        #expect(throws: InvalidOptions.self) { try configuration(required + ["--tls-records", "mine"]) }
    }

    @Test func `how tunnels are shared is a wish, by ztunnel's names too`() throws {
        let given = try configuration(required)
        #expect(given.streamsPerTunnel == 100 && given.tunnelIdle == .seconds(300))
        let wished = try configuration(required + ["--streams-per-tunnel", "1", "--tunnel-idle", "0s"])
        #expect(wished.streamsPerTunnel == 1 && wished.tunnelIdle == .zero)
        let names = ["POOL_MAX_STREAMS_PER_CONNECTION": "7", "POOL_UNUSED_RELEASE_TIMEOUT": "1m"]
        let named = try configuration(required, names)
        #expect(named.streamsPerTunnel == 7 && named.tunnelIdle == .seconds(60))
    }

    @Test func `the path chooses the congestion control of tunnels unless the operator does`() throws {
        func shown(_ given: NodeConfiguration) -> String? {
            given.members.first { $0.name == "tunnelCongestion" }?.value
        }
        #expect(try configuration(required).tunnelCongestion == .auto)
        #expect(try shown(configuration(required)) == "auto")
        let system = try configuration(required + ["--tunnel-congestion", "system"])
        #expect(system.tunnelCongestion == .system && shown(system) == "system")
        let named = try configuration(required, ["WARREN_TUNNEL_CONGESTION": "dctcp"])
        #expect(named.tunnelCongestion == .named("dctcp") && shown(named) == "dctcp")
        #expect(throws: InvalidOptions.self) {
            try configuration(required + ["--tunnel-congestion", "two words"])
        }
    }

    @Test func `capture does without connection tracking unless the operator wants it`() throws {
        func shown(_ given: NodeConfiguration) -> String? {
            given.members.first { $0.name == "capture" }?.value
        }
        #expect(try configuration(required).capture == .auto)
        #expect(try shown(configuration(required)) == "auto")
        let tracked = try configuration(required + ["--capture", "tracked"])
        #expect(tracked.capture == .tracked && shown(tracked) == "tracked")
        #expect(try configuration(required, ["WARREN_CAPTURE": "tracked"]).capture == .tracked)
        #expect(throws: InvalidOptions.self) { try configuration(required + ["--capture", "untracked"]) }
    }

    @Test func `ztunnel's chart can start it`() throws {
        let given = try configuration(
            ["proxy", "ztunnel"],
            [
                "XDS_ADDRESS": "https://istiod.istio-system.svc:15012", "NODE_NAME": "worker-1",
                "CA_ROOT_CA": "/etc/root.pem", "AUTH_TOKEN": "./var/run/secrets/tokens/istio-token",
                "ZTUNNEL_WORKER_THREADS": "3", "LOG_FORMAT": "json", "ISTIO_META_CLUSTER_ID": "east",
                "CLUSTER_ID": "west", "TERMINATION_GRACE_PERIOD_SECONDS": "30", "NETWORK": "",
                "RUST_LOG": "hickory_server::server=off,debug", "POD_NAME": "ztunnel-x",
                "POD_NAMESPACE": "istio-system", "SECRET_TTL": "12h",
            ])
        #expect(given.control == "istiod.istio-system.svc:15012")
        #expect(given.token == .file("./var/run/secrets/tokens/istio-token"))
        #expect(given.workerCount == 3 && given.clusterID == "east")
        #expect(given.accessFormat == .json && given.logFilter == LogFilter(.debug))
        #expect(given.drainDeadline == .seconds(25) && given.certificateLifetime == .seconds(43_200))
    }

    @Test func `the AES is libipsec-mb's where it pays, or libcrypto's by wish`() throws {
        #expect(try configuration(required).aes == .auto)
        #expect(try configuration(required + ["--aes", "libcrypto"]).aes == .libcrypto)
        #expect(try configuration(required, ["WARREN_AES": "libcrypto"]).aes == .libcrypto)
        #expect(throws: InvalidOptions.self) { try configuration(required + ["--aes", "fast"]) }
        let shown = try configuration(required).members.first { $0.name == "aes" }
        #expect(shown?.value == AES.inUse.rawValue)
    }

    @Test func `roots and tokens may be given as themselves`() throws {
        let given = try configuration(
            required + ["--ca-root", "-----BEGIN CERTIFICATE-----", "--token-file", "eyJhbGciOi"])
        #expect(given.roots == .literal("-----BEGIN CERTIFICATE-----"))
        #expect(given.token == .literal("eyJhbGciOi"))
    }

    @Test func `everything that is wrong is told together`() throws {
        do {
            _ = try configuration(
                [
                    "--node", "a/b", "--control", "10.0.0.1:15012", "--uid", "0", "--workers", "lots",
                    "--admin-listen", "x",
                ])
            Issue.record("accepted")
        } catch let error as InvalidOptions {
            #expect(error.problems.map(\.place) == ["--node", "--uid", "--workers", "--admin-listen"])
        }
    }

    @Test(arguments: ["server", "server:", ":15012", "server:0", "server:x"])
    func `a control component without host or port is refused`(text: String) {
        #expect(throws: InvalidOptions.self) { try configuration(["--node", "a", "--control", text]) }
    }

    @Test func `listeners can be moved and left out`() throws {
        let given = try configuration(
            required + [
                "--admin-listen", "none", "--metrics-listen", "127.0.0.1:9000", "--readiness-listen", "none",
            ])
        #expect(given.adminAddresses.isEmpty && given.readinessAddress == nil)
        #expect(given.metricsAddress == socketAddress("127.0.0.1:9000"))
    }
}
