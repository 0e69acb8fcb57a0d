// How many allocations the HTTP/2 machine makes for each frame and each stream, and how long it takes. Prints lines
// `NAME ALLOCATIONS NANOSECONDS`, both for one of what NAME says. Built with optimisation by Tests/interop/test_http2_cost.py.
import CAllocations
import Glibc
import HTTP2

func nanoseconds() -> UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Runs `body` a first time, so that what is made once has been made, and then measures it.
func measure(_ name: String, per count: Int, _ body: () throws -> Void) rethrows {
    try body()
    let (allocations, started) = (callocations_count(), nanoseconds())
    try body()
    let elapsed = nanoseconds() - started
    print(name, Double(callocations_count() - allocations) / Double(count), Double(elapsed) / Double(count))
}

/// Two machines and the memory through which they talk.
@safe final class Pair {
    var client = HTTP2Connection(role: .client, .mesh)
    var server = HTTP2Connection(role: .server, .mesh)
    let wire = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)

    func clientToServer(_ event: (inout HTTP2Connection, HTTP2Event) -> Void) throws {
        let count = unsafe client.takeOutput(into: wire)
        try unsafe Self.pass(&server, UnsafeRawBufferPointer(rebasing: wire[..<count]), event)
    }

    func serverToClient(_ event: (inout HTTP2Connection, HTTP2Event) -> Void) throws {
        let count = unsafe server.takeOutput(into: wire)
        try unsafe Self.pass(&client, UnsafeRawBufferPointer(rebasing: wire[..<count]), event)
    }

    static func pass(
        _ machine: inout HTTP2Connection, _ bytes: UnsafeRawBufferPointer,
        _ event: (inout HTTP2Connection, HTTP2Event) -> Void
    ) throws {
        var offset = 0
        while let next = try unsafe machine.next(bytes, &offset) { event(&machine, next) }
    }
}

let pair = Pair()
try pair.clientToServer { _, _ in }
try pair.serverToClient { _, _ in }

// One tunnel, through which content goes in frames of 16 KiB and of 64 bytes.
let tunnel = try pair.client.openStream(HeaderBlock(connect: "10.0.0.1:8080"), endStream: false)
try pair.clientToServer { _, _ in }
for size in [16_384, 64] {
    try measure("DATA frame of \(size) bytes, sent and received", per: 64 * 1_000) {
        for _ in 0..<1_000 {
            var used = 0
            for _ in 0..<64 where 1 << 20 - used >= size + 9 {
                precondition(pair.client.sendable(tunnel) >= size, "the window was not given back")
                unsafe pair.client.frameData(
                    tunnel, byteCount: size, endStream: false,
                    header: UnsafeMutableRawBufferPointer(rebasing: pair.wire[used...]))
                used += 9 + size
            }
            try unsafe Pair.pass(&pair.server, UnsafeRawBufferPointer(rebasing: pair.wire[..<used])) {
                machine, event in
                if case .data(let stream, let range, _) = event { machine.consumed(stream, range.count) }
            }
            try pair.serverToClient { _, _ in }
        }
    }
}

// Tunnels that are opened, answered, and ended by both sides.
let response = HeaderBlock(status: 200)
try measure("stream, both sides", per: 10_000) {
    for _ in 0..<10_000 {
        var request = HeaderBlock(connect: "10.0.0.1:8080")
        request.append(
            "baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web")
        let stream = try pair.client.openStream(request, endStream: false)
        try pair.clientToServer { machine, event in
            if case .headers(let stream, _, _) = event {
                machine.sendHeaders(stream, response, endStream: false)
            }
        }
        try pair.serverToClient { _, _ in }
        unsafe pair.client.frameData(stream, byteCount: 0, endStream: true, header: pair.wire)
        try unsafe Pair.pass(&pair.server, UnsafeRawBufferPointer(rebasing: pair.wire[..<9])) { _, _ in }
        unsafe pair.server.frameData(stream, byteCount: 0, endStream: true, header: pair.wire)
        try unsafe Pair.pass(&pair.client, UnsafeRawBufferPointer(rebasing: pair.wire[..<9])) { _, _ in }
    }
}
precondition(pair.client.openStreams == 1 && pair.server.openStreams == 1, "streams were left behind")
