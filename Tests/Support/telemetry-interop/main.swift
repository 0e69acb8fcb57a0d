// Writes requests as Telemetry does, for Tests/interop/test_request_log.py.
//
//   telemetry-interop FILE    an array of requests in, as Envoy's JSON log has them and with their start in milliseconds;
//                             on standard output for each a line of text and a line of JSON
//   telemetry-interop         what a request's line of text and its part in the metrics ask of malloc, on average
import Address
import CAllocations
import Documents
import Linux
import Mesh
import Metrics
import Telemetry

func text(_ node: Node?) -> String? {
    if case .string(let text)? = node?.content { text } else { nil }
}

func integer(_ node: Node?) -> Int64 {
    if case .integer(let value)? = node?.content { value } else { 0 }
}

func address(_ node: Node?) -> SocketAddress? {
    text(node).flatMap { SocketAddress($0) }
}

func record(_ request: Node) -> RequestRecord {
    let start = integer(request["start_milliseconds"])
    return RequestRecord(
        start: WallClock(seconds: start / 1_000, nanoseconds: Int32(start % 1_000) * 1_000_000),
        client: .init(address: address(request["downstream_remote_address"])),
        destination: .init(address: address(request["upstream_host"])),
        cluster: text(request["upstream_cluster"]), method: text(request["method"]),
        path: text(request["path"]), authority: text(request["authority"]),
        protocolName: text(request["protocol"]), forwardedFor: text(request["x_forwarded_for"]),
        userAgent: text(request["user_agent"]), requestID: text(request["request_id"]),
        requestedServerName: text(request["requested_server_name"]),
        status: Int(integer(request["response_code"])), flags: text(request["response_flags"]) ?? "",
        details: text(request["response_code_details"]),
        transportFailure: text(request["upstream_transport_failure_reason"]),
        routeName: text(request["route_name"]), attempts: 1,
        bytesReceived: UInt64(clamping: integer(request["bytes_received"])),
        bytesSent: UInt64(clamping: integer(request["bytes_sent"])),
        duration: .milliseconds(integer(request["duration"])),
        upstreamTime: text(request["upstream_service_time"]).flatMap { Int($0) }.map { .milliseconds($0) },
        upstreamLocalAddress: address(request["upstream_local_address"]),
        localAddress: address(request["downstream_local_address"]))
}

func allocations(_ name: String, _ body: () -> Void) {
    let rounds = 1_000
    // What is made once and kept, is.
    body()
    let before = callocations_count()
    for _ in 0..<rounds { body() }
    print(name, Double(callocations_count() - before) / Double(rounds))
}

func measure() {
    var builder = SnapshotBuilder(node: "")
    builder.insert(Workload(uid: "client", name: "client", namespace: "shop"))
    let workload = builder.snapshot().workload(uid: "client")
    let identity = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "client")
    let client = ConnectionRecord.End(
        address: SocketAddress("10.0.0.1:40000"), workload: workload, identity: identity)
    let request = RequestRecord(
        start: WallClock(seconds: 1_700_000_000), client: client, destination: client,
        cluster: RequestRecord.clusterName(host: "reviews.shop.svc.cluster.local", port: 80), method: "GET",
        path: "/reviews/0?with=everything", authority: "reviews.shop.svc.cluster.local",
        protocolName: "HTTP/2", isGRPC: true, forwardedFor: "192.0.2.7, 192.0.2.8",
        userAgent: "grpc-go/1.60.0 (linux)", requestID: "84cc70e7-5e94-4edd-9d21-532a61f2487f", status: 200,
        grpcStatus: 0, details: "via_upstream", routeName: "reviews-of-everything", attempts: 1,
        requestMessages: 1, responseMessages: 1, duration: .milliseconds(3), upstreamTime: .milliseconds(2),
        upstreamLocalAddress: client.address, localAddress: client.address)
    var formatter = RequestLineFormatter(.text)
    allocations("line") { _ = formatter.line(request) }
    let metrics = RequestMetrics(Registry())
    allocations("metrics") { metrics.count(request) }
}

enum ExitError: Error { case usage }

func write(_ file: String) throws {
    let input = try Node(json: readFile(file), file: file)
    guard case .sequence(let requests) = input.content else { throw ExitError.usage }
    var plain = RequestLineFormatter(.text)
    var json = RequestLineFormatter(.json)
    for request in requests {
        let record = record(request)
        print(String(decoding: plain.line(record) + json.line(record), as: UTF8.self), terminator: "")
    }
}

switch CommandLine.arguments.count {
case 1: measure()
case 2: try write(CommandLine.arguments[1])
default: throw ExitError.usage
}
