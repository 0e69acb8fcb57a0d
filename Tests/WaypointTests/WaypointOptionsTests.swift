import Daemon
import Discovery
import Options
import Testing

@testable import Waypoint

struct WaypointOptionsTests {
    private let required = [
        "--name", "wp", "--namespace", "shop", "--control", "10.0.0.1:15012", "--ca-root", "root.pem",
    ]

    private func configuration(
        _ words: [String], _ environment: [String: String] = [:]
    ) throws -> WaypointConfiguration {
        switch WaypointOptions.command.parse(words, environment: { environment[$0] }) {
        case .run(let invocation): return try WaypointConfiguration(invocation)
        case .answer: throw InvalidOptions(problems: [])
        case .invalid(let problems): throw InvalidOptions(problems: problems)
        }
    }

    @Test func `a waypoint needs its name and its control component`() throws {
        let given = try configuration(required)
        #expect(given.qualifiedName.description == "shop/wp" && given.control == "10.0.0.1:15012")
        #expect(given.roots == .file("root.pem") && given.token == nil)
        #expect(given.adminSocket == "/run/warren/shop_wp.sock")
        #expect(given.listenAddresses == [.anyIPv6])
        #expect(given.workerCount >= 1)
        for index in stride(from: 0, to: required.count, by: 2) {
            var lacking = required
            lacking.removeSubrange(index..<index + 2)
            #expect(throws: InvalidOptions.self) { try configuration(lacking) }
        }
    }

    @Test func `every flag has a variable`() throws {
        for option in WaypointOptions.command.options where option.name != "end-with-parent" {
            #expect(!option.environment.isEmpty, "\(option.name)")
        }
        let given = try configuration(
            [],
            [
                "WARREN_WAYPOINT": "wp", "WARREN_NAMESPACE": "shop", "WARREN_CONTROL": "c:1",
                "WARREN_CA_ROOT": "r", "WARREN_TOKEN_FILE": "t", "WARREN_POD_NAME": "wp-1",
            ])
        #expect(given.adminSocket == "/run/warren/shop_wp-1.sock" && given.token == .file("t"))
    }

    @Test func `it introduces itself as a waypoint`() throws {
        let discovery = try configuration(required + ["--pod-name", "wp-1"]).discovery
        #expect(discovery.node.id == "waypoint~1.1.1.1~wp-1.shop~shop.svc.cluster.local")
        #expect(!discovery.subscribesToLocalPods)
    }

    @Test(arguments: [
        ["--address", "nowhere"], ["--uid", "0"], ["--metrics-listen", "15020"],
        ["--run-directory", "/" + String(repeating: "d", count: 100)],
    ])
    func `what cannot be is said`(words: [String]) {
        #expect(throws: InvalidOptions.self) { try configuration(required + words) }
        #expect(throws: InvalidOptions.self) { try configuration(required + ["--name", "a/b"]) }
    }
}
