import Address
import EventLoop
import HTTP2
import Linux
import Metrics
import TLS
import TLSTestSupport
import Testing

@testable import Transport

struct TestTimeout: Error, CustomStringConvertible {
    let what: String
    var description: String { "timed out: \(what)" }
}

/// How two channels of a test are joined.
enum Wire: CaseIterable, Sendable {
    case unix, tcp, tls
    /// TLS whose records are libssl's.
    case libraryTLS
}

/// Certificates for the tests' two sides, made once.
struct Certificates: Sendable {
    static let shared = try? Certificates()
    static let clientIdentity = "spiffe://cluster.local/ns/shop/sa/client"
    static let serverIdentity = "spiffe://cluster.local/ns/shop/sa/server"

    let authority: CertificateAuthority
    let client: CertificateBundle
    let server: CertificateBundle

    init() throws {
        let authority = try CertificateAuthority.createRoot(organization: "cluster.local")
        func bundle(_ uri: String) throws -> CertificateBundle {
            let key = try PrivateKey.generate()
            let leaf = try authority.sign(key.publicKey, uri: uri, validity: 3_600)
            return try CertificateBundle(key: key, chain: authority.chain(for: leaf))
        }
        self.authority = authority
        client = try bundle(Certificates.clientIdentity)
        server = try bundle(Certificates.serverIdentity)
    }

    func clientSession(
        expecting: String = serverIdentity, records: RecordLayer = TestedRecords.layer
    ) throws -> TLSSession {
        try TLSSession(clientContext(records: records), expecting: [expecting])
    }

    func serverSession(records: RecordLayer = TestedRecords.layer) throws -> TLSSession {
        try TLSSession(serverContext(records: records))
    }

    func clientContext(records: RecordLayer = TestedRecords.layer) throws -> TLSContext {
        var configuration = TLSConfiguration.meshClient(client, roots: authority.roots)
        configuration.records = records
        return try TLSContext(configuration)
    }

    func serverContext(records: RecordLayer = TestedRecords.layer) throws -> TLSContext {
        var configuration = TLSConfiguration.meshServer(
            server, roots: authority.roots, trustDomains: ["cluster.local"])
        configuration.records = records
        return try TLSContext(configuration)
    }
}

/// A delegate that notes what happens and accepts streams as a test says.
final class Recorder: HTTP2ChannelDelegate {
    var accept: (HeaderBlock) -> HTTP2Stream? = { _ in nil }
    var readyCount = 0
    var capacityChanges = 0
    var closings: [ChannelClose] = []
    var onClose: () -> Void = {}

    func channelReady(_ channel: HTTP2Channel) { readyCount += 1 }
    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        accept(headers)
    }
    func channelCapacityChanged(_ channel: HTTP2Channel) { capacityChanges += 1 }
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        closings.append(reason)
        onClose()
    }
}

/// Turns a loop on the test's own thread.
class Rig {
    let loop: EventLoop

    init(_ loop: EventLoop) {
        self.loop = loop
    }

    convenience init() throws {
        self.init(try EventLoop(name: "test", registry: Registry()))
    }

    /// Turns until the condition holds.
    func until(_ what: String, _ condition: () -> Bool) throws {
        let deadline = MonotonicTime.now() + .seconds(60)
        while !condition() {
            guard MonotonicTime.now() < deadline else { throw TestTimeout(what: what) }
            loop.turn(waitingAtMost: .milliseconds(20))
        }
    }

    /// Turns as long as anything happens at once.
    func settle() {
        for _ in 0..<50 { loop.turn(waitingAtMost: .zero) }
    }
}

/// A client and a server channel on one loop.
final class ChannelRig: Rig {
    let client: HTTP2Channel
    let server: HTTP2Channel
    let clientSide = Recorder()
    let serverSide = Recorder()

    init(
        _ wire: Wire, client clientConfiguration: ChannelConfiguration = .init(),
        server serverConfiguration: ChannelConfiguration = .init(), bufferBudget: Int = 256 << 20,
        socketBuffers: Int32? = nil, accept: @escaping (HeaderBlock) -> HTTP2Stream? = { _ in EchoStream() }
    ) throws {
        let loop = try EventLoop(name: "test", .init(bufferBudget: bufferBudget), registry: Registry())
        serverSide.accept = accept
        var clientSession: TLSSession?
        var serverSession: TLSSession?
        if wire == .tls || wire == .libraryTLS {
            let certificates = try #require(Certificates.shared)
            let records = wire == .libraryTLS ? RecordLayer.libssl : TestedRecords.layer
            clientSession = try certificates.clientSession(records: records)
            serverSession = try certificates.serverSession(records: records)
        }
        let pair = wire == .unix ? try Socket.pair() : try tcpPair()
        if let socketBuffers {
            pair.first.setBuffers(receive: socketBuffers, send: socketBuffers)
            pair.second.setBuffers(receive: socketBuffers, send: socketBuffers)
        }
        let near = pair.first
        let far = pair.second
        client = try .client(
            on: loop, socket: near, tls: clientSession, configuration: clientConfiguration,
            delegate: clientSide)
        server = try .server(
            on: loop, socket: far, tls: serverSession, configuration: serverConfiguration,
            delegate: serverSide)
        super.init(loop)
        try until("both sides are ready") { self.client.isOpen && self.server.isOpen }
        try until("settings have been exchanged") {
            self.clientSide.capacityChanges > 0 && self.serverSide.capacityChanges > 0
        }
    }

    /// Opens a stream with a CONNECT request.
    func open<Stream: HTTP2Stream>(_ stream: Stream, endStream: Bool = false) throws -> Stream {
        try client.open(stream, headers: HeaderBlock(connect: "10.0.0.1:80"), endStream: endStream)
        return stream
    }

    /// Ends both sides and checks that nothing is left behind.
    func close() throws {
        client.close()
        try until("both sides are closed") {
            self.clientSide.closings.count == 1 && self.serverSide.closings.count == 1
                && self.loop.registrationCount == 0
        }
        #expect(loop.buffers.borrowedBytes == 0)
        #expect(loop.armedTimerCount == 0)
    }
}

func tcpPair() throws -> SocketPair {
    let listener = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0))
    guard let address = listener.localAddress else { throw TestTimeout(what: "no address") }
    let near = try Socket.connect(to: address)
    let deadline = MonotonicTime.now() + .seconds(60)
    while MonotonicTime.now() < deadline {
        if let accepted = try listener.accept() { return SocketPair(first: near, second: accepted.socket) }
    }
    throw TestTimeout(what: "no connection")
}

/// Byte `offset` of the stream of bytes that tests send: loss, repetition and exchange all show.
func pattern(_ offset: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: (offset &* 0x9e37_79b1) >> 11)
}

/// Sends so many bytes of the pattern, then ends its side; checks that what comes back is the same pattern.
class SourceStream: HTTP2Stream {
    private(set) var toSend: Int
    var sent = 0
    var received = 0
    var isIntact = true
    var statuses: [Int] = []
    var gotEnd = false
    var endings: [StreamClose] = []
    var endsWhenSent = true
    /// Gives bytes back as they come; otherwise they stay taken.
    var consumes = true
    var usesReserve = true

    init(_ total: Int) {
        toSend = total
    }

    func start() { writable() }

    override func writable() {
        while toSend > 0 {
            if usesReserve {
                guard let room = unsafe reserve(toSend) else { return }
                for index in 0..<room.count { unsafe room[index] = pattern(sent + index) }
                sent += room.count
                toSend -= room.count
                commit(room.count, endStream: toSend == 0 && endsWhenSent)
            } else {
                let bytes = (0..<min(toSend, 50_000)).map { pattern(sent + $0) }
                let isLast = endsWhenSent && bytes.count == toSend
                let count = unsafe bytes.withUnsafeBytes { unsafe send($0, endStream: isLast) }
                sent += count
                toSend -= count
                if count < bytes.count { return }
            }
        }
        if endsWhenSent, !isLocalEnded { finish() }
    }

    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        statuses.append(headers.status ?? 0)
        if endStream { gotEnd = true }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        for index in 0..<bytes.count where unsafe bytes[index] != pattern(received + index) {
            isIntact = false
        }
        received += bytes.count
        if consumes { consumed(bytes.count) }
        if endStream { gotEnd = true }
    }

    override func closed(_ reason: StreamClose) { endings.append(reason) }
}

/// Sends back what it gets, and takes no more than it could send back.
final class EchoStream: HTTP2Stream {
    private var waiting: [UInt8] = []
    private(set) var endings: [StreamClose] = []
    private(set) var largestWaiting = 0

    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        sendHeaders(HeaderBlock(status: 200), endStream: false)
        if endStream { finish() }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        var sent = 0
        if waiting.isEmpty { sent = unsafe send(bytes) }
        consumed(sent)
        if sent < bytes.count { unsafe waiting += bytes[sent...] }
        largestWaiting = max(largestWaiting, waiting.count)
        if endStream, waiting.isEmpty { finish() }
    }

    override func writable() {
        let sent = unsafe waiting.withUnsafeBytes { unsafe send($0) }
        waiting.removeFirst(sent)
        consumed(sent)
        if waiting.isEmpty, isRemoteEnded, !isLocalEnded { finish() }
    }

    override func closed(_ reason: StreamClose) { endings.append(reason) }
}

/// Takes the bytes of any stream and ends its side when the peer has ended.
final class CountingStream: HTTP2Stream {
    var count = 0
    var endings: [StreamClose] = []
    var consumes = true
    var onData: () -> Void = {}

    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        sendHeaders(HeaderBlock(status: 200), endStream: false)
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        count += bytes.count
        if consumes { consumed(bytes.count) }
        onData()
        if endStream { finish() }
    }

    override func closed(_ reason: StreamClose) { endings.append(reason) }
}
