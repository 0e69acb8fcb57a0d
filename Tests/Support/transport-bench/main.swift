import Address
import EventLoop
import Glibc
import HTTP2
import Linux
import Synchronization
import TLS
import Transport

// What the driver costs by itself: one client and one server channel, each on a loop of its own, joined over loopback TCP.
//
//     transport-bench bulk [streams] [--plain]       bytes one way, as fast as they go
//     transport-bench requests [streams] [--plain]   1 KiB there and 1 KiB back, on long-lived streams
//     transport-bench opens [streams] [--plain]      a new stream for every 100 bytes there and back
//
// And what TLS costs by itself, both sides in one thread and in memory:
//
//     transport-bench records [KiB]                  sealing and opening, so much at a time
//     transport-bench handshakes                     full mutual handshakes between known peers
//     transport-bench memory                         bytes of heap that an end of an idle channel holds
//
// `--libcrypto` takes libcrypto's AES, `--libssl` libssl's records. Figures are of both sides together; a tunnel between two
// nodes has these and two application sockets more.

private let words = CommandLine.arguments.dropFirst().filter { !$0.hasPrefix("--") }
private let mode = words.first ?? "bulk"
private let streamCount = words.dropFirst().first.flatMap { Int($0) } ?? 1
private let isPlain = CommandLine.arguments.contains("--plain")
private let records = CommandLine.arguments.contains("--libssl") ? RecordLayer.libssl : .own
private let seconds = 3.0

private let bytesMoved = Atomic<Int>(0)
private let exchanges = Atomic<Int>(0)

private let content = [UInt8](repeating: 1, count: 262_144)

/// Owes the peer so many bytes and sends them when it may.
private class Debtor: HTTP2Stream {
    private var owed = 0
    private var ends = false

    func owe(_ byteCount: Int, endStream: Bool) {
        owed += byteCount
        ends = ends || endStream
        writable()
    }

    override func writable() {
        let sent = unsafe content.withUnsafeBytes {
            unsafe send(UnsafeRawBufferPointer(rebasing: $0[..<owed]), endStream: ends)
        }
        owed -= sent
    }
}

/// Takes everything; in the other modes than bulk it answers with as many bytes.
private final class Sink: Debtor {
    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        sendHeaders(HeaderBlock(status: 200), endStream: false)
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        if mode == "bulk" {
            bytesMoved.add(bytes.count, ordering: .relaxed)
        } else {
            owe(bytes.count, endStream: endStream)
        }
        consumed(bytes.count)
    }
}

/// Sends without end, or asks again whenever it was answered.
private final class Source: Debtor {
    private unowned let side: Side
    private var answered = 0

    init(_ side: Side) {
        self.side = side
    }

    func start() {
        if mode == "bulk" { writable() } else { ask() }
    }

    private func ask() {
        owe(mode == "opens" ? 100 : 1_024, endStream: mode == "opens")
    }

    override func writable() {
        guard mode == "bulk" else { return super.writable() }
        while let room = unsafe reserve(262_144) { commit(room.count) }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        answered += bytes.count
        consumed(bytes.count)
        guard mode == "requests", answered == 1_024 else { return }
        answered = 0
        exchanges.add(1, ordering: .relaxed)
        ask()
    }

    override func closed(_ reason: StreamClose) {
        guard mode == "opens", reason == .finished else { return }
        exchanges.add(1, ordering: .relaxed)
        side.open()
    }
}

private final class Side: HTTP2ChannelDelegate {
    var channel: HTTP2Channel?

    func open() {
        let stream = Source(self)
        guard
            (try? channel?.open(stream, headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: false))
                != nil
        else {
            return
        }
        stream.start()
    }

    func channelReady(_ channel: HTTP2Channel) {
        guard channel.role == .client else { return }
        for _ in 0..<streamCount { open() }
    }

    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        Sink()
    }
    func channelCapacityChanged(_ channel: HTTP2Channel) {}
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) { print("closed: \(reason)") }
}

func bundle(_ authority: CertificateAuthority, _ account: String) throws -> CertificateBundle {
    let key = try PrivateKey.generate()
    let uri = "spiffe://cluster.local/ns/bench/sa/\(account)"
    let leaf = try authority.sign(key.publicKey, uri: uri, validity: 3_600)
    return try CertificateBundle(key: key, chain: authority.chain(for: leaf))
}

func cpuSeconds() -> Double {
    var usage = rusage()
    unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

if CommandLine.arguments.contains("--libcrypto") { AES.use(.libcrypto) }
let authority = try CertificateAuthority.createRoot(organization: "cluster.local")
let clientBundle = try bundle(authority, "client")
let serverBundle = try bundle(authority, "server")
if ["records", "handshakes", "memory"].contains(mode) {
    let sessions = try SessionPair(authority, client: clientBundle, server: serverBundle, records: records)
    if mode == "memory" {
        print(try ChannelMemory(sessions).bytesPerEnd())
        exit(0)
    }
    let figures =
        try mode == "records" ? sessions.records(byteCount: streamCount << 10) : sessions.handshakes()
    print("\(AES.inUse.rawValue): \(figures); \(residentKiB()) KiB resident")
    exit(0)
}
let address = Mutex<SocketAddress?>(nil)
let isListening = try EventDescriptor()

let serverThread = try EventLoop.start(name: "server") { loop in
    do {
        let socket = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0))
        let bound = socket.localAddress
        var configuration = TLSConfiguration.meshServer(
            serverBundle, roots: authority.roots, trustDomains: ["cluster.local"])
        configuration.records = records
        let context = try TLSContext(configuration)
        let side = Side()
        let listener = try Listener(on: loop, socket) { accepted in
            side.channel = try? HTTP2Channel.server(
                on: loop, socket: accepted.socket, tls: isPlain ? nil : try? TLSSession(context),
                delegate: side)
        }
        loop.schedule(after: .seconds(3_600)) { listener.close() }
        address.withLock { $0 = bound }
    } catch { print("server: \(error)") }
    isListening.signal()
}
isListening.wait(milliseconds: -1)
guard let target = address.withLock({ $0 }) else { exit(1) }
let clientThread = try EventLoop.start(name: "client") { loop in
    do {
        var configuration = TLSConfiguration.meshClient(clientBundle, roots: authority.roots)
        configuration.records = records
        let context = try TLSContext(configuration)
        let session = try TLSSession(context, expecting: ["spiffe://cluster.local/ns/bench/sa/server"])
        let side = Side()
        side.channel = try HTTP2Channel.client(
            on: loop, socket: try Socket.connect(to: target), tls: isPlain ? nil : session, delegate: side)
        loop.schedule(after: .seconds(3_600)) { side.channel?.close() }
    } catch { print("client: \(error)") }
}

let pause = try EventDescriptor()
pause.wait(milliseconds: 500)
let start = (
    MonotonicTime.now(), cpuSeconds(), bytesMoved.load(ordering: .relaxed), exchanges.load(ordering: .relaxed)
)
pause.wait(milliseconds: Int32(seconds * 1_000))
let wall = Double((MonotonicTime.now() - start.0).wholeNanoseconds) / 1e9
let cpu = cpuSeconds() - start.1
if mode == "bulk" {
    let moved = Double(bytesMoved.load(ordering: .relaxed) - start.2)
    print(
        "\(streamCount) streams: \(moved * 8 / wall / 1e9) Gbit/s, \(cpu / (moved / 1_073_741_824)) CPU-s/GiB"
    )
} else {
    let count = Double(exchanges.load(ordering: .relaxed) - start.3)
    print("\(streamCount) streams: \(count / wall) a second, \(cpu / count * 1e6) CPU-us each")
}
exit(0)
