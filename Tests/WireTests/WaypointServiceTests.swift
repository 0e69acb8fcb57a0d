import Mesh
import Protobuf
import Routing
import TestMessages
import TestSupport
import Testing
import Wire

struct WaypointServiceTests {
    @Test(arguments: 0..<200 as Range<UInt64>)
    func `what a waypoint runs on survives the wire`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let service = random.waypointService()
        let bytes = Warren_V1_WaypointService(service).serializedBytes()
        let reread = try Warren_V1_WaypointService(serializedBytes: bytes)
        #expect(reread.unknownFields.data.isEmpty)
        #expect(try WaypointService(reread) == service)
        // Equal models are equal bytes: versions are made of them.
        #expect(Warren_V1_WaypointService(try WaypointService(reread)).serializedBytes() == bytes)
    }

    @Test func `a span of time is kept to the nearest nanosecond`() throws {
        var service = WaypointService(NamespacedName(namespace: "n", name: "h"))
        var policy = DestinationPolicy(service.key)
        policy.traffic.connectionPool.connectTimeout =
            .seconds(0.025) + Duration(secondsComponent: 0, attosecondsComponent: 3)
        service.destinations["h"] = policy
        let reread = try WaypointService(Warren_V1_WaypointService(service))
        #expect(reread.destinations["h"]?.traffic.connectionPool.connectTimeout == .milliseconds(25))
    }

    struct Row: CustomStringConvertible {
        var error: String
        var change: @Sendable (inout Warren_V1_WaypointService) -> Void
        var description: String { error }
    }

    static let rows: [Row] = [
        Row(error: "namespace: missing") { $0.namespace = "" },
        Row(error: "hostname: holds a slash") { $0.hostname = "a/b" },
        Row(error: "ports[0]: 0 is no port") { $0.ports[0] = .init() },
        Row(error: "ports[70000]: 70000 is no port, expected at most 65535") { $0.ports[70_000] = .init() },
        Row(error: "ports[80].app_protocol: UNRECOGNIZED(9) (9) is not supported") {
            $0.ports[80]?.appProtocol = .UNRECOGNIZED(9)
        },
        Row(error: "ports[80].virtual_hosts[0].routes[0].action: missing, or of a kind that is not supported")
        { route(&$0) { $0.action = nil } },
        Row(error: "ports[80].virtual_hosts[0].routes[0].redirect.status: 304 is none of a redirect") {
            route(&$0) { $0.redirect.status = 304 }
        },
        Row(error: "ports[80].virtual_hosts[0].routes[0].redirect.port_number: 0 is no port") {
            route(&$0) {
                $0.redirect.status = 301
                $0.redirect.port = .number
            }
        },
        Row(error: "ports[80].virtual_hosts[0].routes[0].respond.status: 99 is not between 200 and 600") {
            route(&$0) { $0.respond.status = 99 }
        },
        Row(error: "ports[80].virtual_hosts[0].routes[0].respond.body: 1048576 bytes, expected below 1 MiB") {
            route(&$0) {
                $0.respond.status = 200
                $0.respond.body = [UInt8](repeating: 0, count: 1 << 20)
            }
        },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].request_headers.set[0].name: \"Host\" is no name of a header in lower case"
        ) { route(&$0) { $0.requestHeaders.set = [header("Host", "x")] } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].response_headers.add[0].value: holds a control character"
        ) { route(&$0) { $0.responseHeaders.add = [header("x", "a\r\nb: c")] } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].request_headers.remove[0]: \"\" is no name of a header in lower case"
        ) { route(&$0) { $0.requestHeaders.remove = [""] } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].matches[0].method.kind: missing, or one that is not supported"
        ) { route(&$0) { $0.matches = [match { $0.method = .init() }] } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].matches[0].path.kind: missing, or one that is not supported"
        ) { route(&$0) { $0.matches = [match { $0.path = .init() }] } },
        Row(error: "ports[80].virtual_hosts[0].routes[0].matches[0].headers[0].name: missing") {
            route(&$0) { $0.matches = [match { $0.headers = [.init()] }] }
        },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.destinations[0].target: missing, or of a kind that is not supported"
        ) { forward(&$0) { $0.destinations = [.init()] } },
        Row(error: "ports[80].virtual_hosts[0].routes[0].forward.destinations[0].service.host: missing") {
            forward(&$0) { $0.destinations = [weighted("", 1)] }
        },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.destinations: the weights sum up to 4294967296"
        ) { forward(&$0) { $0.destinations = [weighted("a", .max), weighted("b", 1)] } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.timeout: -1 s and 0 ns are no span of time, or too long a one"
        ) { forward(&$0) { $0.timeout.seconds = -1 } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.timeout: 315576000001 s and 0 ns are no span of time, or too long a one"
        ) { forward(&$0) { $0.timeout.seconds = 315_576_000_001 } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.fault.abort.grpc_status: 17 is not between 0 and 16"
        ) { forward(&$0) { $0.fault.abort.grpcStatus = 17 } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.fault.delay.millionths: 1000001 is not between 0 and 1000000"
        ) { forward(&$0) { $0.fault.delay.millionths = 1_000_001 } },
        Row(
            error:
                "ports[80].virtual_hosts[0].routes[0].forward.retries.statuses[0]: 99 is not between 100 and 599"
        ) { forward(&$0) { $0.retries.statuses = [99] } },
        Row(
            error:
                "destinations[h].traffic.load_balancing.method: missing, or of a kind that is not supported"
        ) { $0.destinations["h"]?.traffic.loadBalancing.method = nil },
        Row(
            error:
                "destinations[h].traffic.load_balancing.hash.key: missing, or of a kind that is not supported"
        ) { $0.destinations["h"]?.traffic.loadBalancing.hash.ringMinimumSize = 1 },
        Row(
            error:
                "destinations[h].traffic.load_balancing.hash.maglev_table_size: 2 is not between 3 and 5000011"
        ) {
            $0.destinations["h"]?.traffic.loadBalancing.hash.query = "q"
            $0.destinations["h"]?.traffic.loadBalancing.hash.maglevTableSize = 2
        },
        Row(error: "destinations[h].traffic.outlier_detection.interval: missing") {
            $0.destinations["h"]?.traffic.outlierDetection.maxEjectionPercent = 1
        },
        Row(error: "destinations[h].traffic.retry_budget.percent: nan is not between 0.0 and 100.0") {
            $0.destinations["h"]?.traffic.retryBudget.percent = .nan
        },
        Row(error: "destinations[]: the key is empty") { $0.destinations[""] = .init() },
        Row(
            error:
                "destinations[h].subsets[s].traffic.load_balancing.method: missing, or of a kind that is not supported"
        ) { $0.destinations["h"]?.subsets["s"] = .init() },
    ]

    @Test(arguments: rows)
    func `what the model cannot say is refused, and the field is named`(row: Row) throws {
        var service = WaypointService(NamespacedName(namespace: "n", name: "h"))
        service.destinations["h"] = DestinationPolicy(service.key)
        service.ports[80] = .init(
            .http11,
            virtualHosts: [
                VirtualHost(
                    "h",
                    routes: [
                        Route(.init(object: "o", index: 0), action: .respond(DirectResponse(status: 200)))
                    ])
            ])
        var wire = Warren_V1_WaypointService(service)
        #expect(try WaypointService(wire) == service)
        row.change(&wire)
        do {
            _ = try WaypointService(wire)
            Issue.record("it is taken")
        } catch { #expect("\(error)" == row.error) }
    }

    private static func route(
        _ service: inout Warren_V1_WaypointService, _ change: (inout Warren_V1_Route) -> Void
    ) {
        guard var route = service.ports[80]?.virtualHosts.first?.routes.first else { return }
        change(&route)
        service.ports[80]?.virtualHosts[0].routes[0] = route
    }

    private static func forward(
        _ service: inout Warren_V1_WaypointService, _ change: (inout Warren_V1_Forwarding) -> Void
    ) {
        route(&service) {
            var forwarding = Warren_V1_Forwarding()
            change(&forwarding)
            $0.forward = forwarding
        }
    }

    private static func match(_ change: (inout Warren_V1_RequestMatch) -> Void) -> Warren_V1_RequestMatch {
        var match = Warren_V1_RequestMatch()
        change(&match)
        return match
    }

    private static func header(_ name: String, _ value: String) -> Warren_V1_HeaderValue {
        var header = Warren_V1_HeaderValue()
        header.name = name
        header.value = value
        return header
    }

    private static func weighted(_ host: String, _ weight: UInt32) -> Warren_V1_WeightedDestination {
        var destination = Warren_V1_WeightedDestination()
        destination.service.host = host
        destination.weight = weight
        return destination
    }
}
