// Writes requests as Telemetry does, for Tests/interop/test_request_log.py.
//
//   telemetry-interop FILE    an array of requests in, as Envoy's JSON log has them and with their start in milliseconds;
//                             on standard output for each a line of text and a line of JSON
import Address
import Documents
import Linux
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

guard CommandLine.arguments.count == 2 else {
    print("usage: telemetry-interop FILE")
    throw ExitError.usage
}
let file = CommandLine.arguments[1]
let input = try Node(json: readFile(file), file: file)
guard case .sequence(let requests) = input.content else { throw ExitError.notAnArray }
var plain = RequestLineFormatter(.text)
var json = RequestLineFormatter(.json)
for request in requests {
    let record = record(request)
    print(String(decoding: plain.line(record) + json.line(record), as: UTF8.self), terminator: "")
}

enum ExitError: Error { case usage, notAnArray }
