import Address
import EventLoop
import HTTP2
import Linux
import Mesh
import Metrics
import Routing
import Testing
import Tunnel

@testable import L7

struct TestTimeout: Error, CustomStringConvertible {
    let what: String
    var description: String { "timed out: \(what)" }
}

/// A byte channel whose other end is the test.
@safe
final class MemoryChannel: Pollable, ByteChannel {
    let loop: EventLoop
    private var delegate: (any ByteChannelDelegate)?
    private(set) var isOpen = true
    private(set) var isLocalEnded = false
    private(set) var isRemoteEnded = false
    /// What was sent and the test has yet to look at; no more than `capacity` of it.
    private(set) var written: [UInt8] = []
    var capacity = Int.max
    private var owesWritable = false
    private var room: UnsafeMutableRawBufferPointer?
    /// Fed, and not consumed.
    private(set) var unconsumed = 0
    private(set) var aborted: CloseReason?
    private(set) var isClosed = false
    private var isToldLater = false

    init(_ loop: EventLoop) {
        self.loop = loop
    }

    deinit { unsafe room?.deallocate() }

    func begin(_ delegate: any ByteChannelDelegate) { self.delegate = delegate }

    func reserve(_ limit: Int) -> UnsafeMutableRawBufferPointer? {
        let count = min(limit, capacity - written.count, 65_536)
        guard isOpen, !isLocalEnded, count > 0 else {
            owesWritable = true
            return nil
        }
        unsafe room?.deallocate()
        let area = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        unsafe room = area
        return unsafe area
    }

    func commit(_ byteCount: Int) {
        guard let room = unsafe room else { return }
        unsafe written += room.prefix(byteCount)
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = isOpen && !isLocalEnded ? min(bytes.count, max(0, capacity - written.count)) : 0
        unsafe written += bytes.prefix(count)
        if count < bytes.count { owesWritable = true }
        return count
    }

    func consumed(_ byteCount: Int) {
        unconsumed -= byteCount
        #expect(unconsumed >= 0, "consumed bytes that were never received")
    }

    func finish() { isLocalEnded = true }

    func close() {
        isClosed = true
        isLocalEnded = true
        isOpen = false
        isToldLater = true
        loop.atEndOfTurn(self)
    }

    func abort(_ reason: CloseReason) {
        aborted = reason
        isOpen = false
        isToldLater = true
        loop.atEndOfTurn(self)
    }

    override func endOfTurn() {
        guard isToldLater else { return }
        isToldLater = false
        let last = delegate
        delegate = nil
        last?.closed(.local)
    }

    // MARK: The test's end

    func feed(_ bytes: [UInt8]) {
        guard isOpen, let delegate else { return }
        unconsumed += bytes.count
        unsafe bytes.withUnsafeBytes { unsafe delegate.received($0) }
        delegate.batchEnded()
    }

    func feed(_ text: String) { feed(Array(text.utf8)) }

    func endInput() {
        isRemoteEnded = true
        delegate?.remoteEnded()
    }

    /// The connection breaks.
    func drop(_ reason: ByteChannelClose = .reset) {
        isOpen = false
        let last = delegate
        delegate = nil
        last?.closed(reason)
    }

    /// Takes what was sent.
    func take() -> [UInt8] {
        let all = written
        written = []
        if owesWritable, isOpen, !all.isEmpty {
            owesWritable = false
            delegate?.writable()
        }
        return all
    }

    func takeText() -> String { String(decoding: take(), as: UTF8.self) }
    var text: String { String(decoding: written, as: UTF8.self) }
}

/// A service with clients and endpoints that the test plays.
final class Proxy: UpstreamConnector, UpstreamResolver, ExchangeObserver {
    let loop: EventLoop
    private(set) var service: HTTPService!
    var upstreams: [Destination: Upstream] = [:]
    /// Connections to endpoints, in order.
    var connections: [(endpoint: UpstreamEndpoint, channel: MemoryChannel)] = []
    /// Endpoints that cannot be reached, or never answer.
    var unreachable: Set<String> = []
    var silent: Set<String> = []
    var records: [ExchangeRecord] = []
    /// What random numbers come, over and over.
    var numbers: [UInt64] = [0]
    private var numberCount = 0

    init(
        _ routes: [Route]? = nil, port: PortProtocol = .http, endpoints: Int = 1, http2: Bool? = false,
        _ change: (inout HTTPService.Configuration) -> Void = { _ in },
        upstream changeUpstream: (inout Upstream.Configuration) -> Void = { _ in }
    ) throws {
        loop = try EventLoop(name: "test", registry: Registry())
        var configuration = HTTPService.Configuration()
        change(&configuration)
        let destination = Destination("app.shop")
        let all =
            routes ?? [
                Route(.init(object: "test", index: 0), action: .forward(Forwarding([.init(destination)])))
            ]
        service = HTTPService(
            loop: loop, configuration, port: port,
            routes: try RoutingTable([VirtualHost("test", routes: all)]),
            resolver: self
        ) { [unowned self] in
            numberCount += 1
            return numbers[(numberCount - 1) % numbers.count]
        }
        service.observer = self
        for host in ["app.shop", "other.shop"] {
            var configuration = Upstream.Configuration()
            configuration.speaksHTTP2 = http2
            configuration.balancing = .roundRobin
            changeUpstream(&configuration)
            let upstream = Upstream(loop: loop, Destination(host), configuration, connector: self)
            upstream.update(
                try (0..<endpoints).map {
                    UpstreamEndpoint(
                        id: "\(host)-\($0)", address: try #require(SocketAddress("10.0.0.\($0 + 1):80")))
                })
            upstreams[upstream.destination] = upstream
        }
    }

    func upstream(for destination: Destination) -> Upstream? { upstreams[destination] }

    func connect(
        to endpoint: UpstreamEndpoint, of upstream: Upstream, _ completion: @escaping (ConnectOutcome) -> Void
    ) -> () -> Void {
        if silent.contains(endpoint.id) { return {} }
        let timer = loop.schedule(after: .zero) { [unowned self] in
            if unreachable.contains(endpoint.id) { return completion(.failed(.connectFailed("refused"))) }
            let channel = MemoryChannel(loop)
            connections.append((endpoint, channel))
            completion(.connected(channel))
        }
        return { [loop] in loop.cancel(timer) }
    }

    func exchangeEnded(_ record: ExchangeRecord) { records.append(record) }

    func until(_ what: String, _ condition: () throws -> Bool) throws {
        let deadline = MonotonicTime.now() + .seconds(60)
        while try !condition() {
            guard MonotonicTime.now() < deadline else { throw TestTimeout(what: what) }
            loop.turn(waitingAtMost: .milliseconds(1))
        }
    }

    /// A client's connection.
    func client() -> MemoryChannel {
        let channel = MemoryChannel(loop)
        service.serve(channel, from: ClientContext())
        return channel
    }

    /// The number-th connection to an endpoint, once a request is on it.
    func connection(_ number: Int = 0) throws -> MemoryChannel {
        try until("connection \(number) with a request") {
            connections.count > number && !connections[number].channel.written.isEmpty
        }
        return connections[number].channel
    }

    /// What a client got, once it holds the text.
    func answer(_ client: MemoryChannel, _ text: String) throws -> String {
        try until("\"\(text)\" at the client; it has \"\(client.text)\"") { client.text.contains(text) }
        return client.takeText()
    }
}

func forwarding(_ change: (inout Forwarding) -> Void) -> [Route] {
    var forwarding = Forwarding([.init(Destination("app.shop"))])
    change(&forwarding)
    return [Route(.init(object: "test", index: 0), action: .forward(forwarding))]
}
