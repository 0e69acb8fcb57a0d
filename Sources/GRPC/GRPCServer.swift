import EventLoop
import HTTP2
import Linux
import TLS
import Transport

/// Serves calls on one loop, over connections that its owner accepts.
public final class GRPCServer: HTTP2ChannelDelegate {
    public struct Configuration: Sendable {
        public var channel = ChannelConfiguration(.control)
        public var limits = GRPCLimits.server
        /// Connections at once. One more takes the place of one without a call, or is closed as soon as it comes.
        public var channelLimit = 10_000

        public init() {}
    }

    public typealias Method = (GRPCServerCall) -> any GRPCServerHandler

    private struct Entry {
        let channel: HTTP2Channel
        /// In the order of arrival.
        let number: UInt64
        var isLeaving = false
    }

    public let configuration: Configuration
    private let loop: EventLoop
    private var methods: [String: Method] = [:]
    private var channels: [ObjectIdentifier: Entry] = [:]
    private var acceptedCount: UInt64 = 0
    /// Channels that are on their way out to make room.
    private var leavingCount = 0
    private var isDraining = false
    private var onDrained: (() -> Void)?

    public init(on loop: EventLoop, _ configuration: Configuration = Configuration()) {
        self.loop = loop
        self.configuration = configuration
    }

    /// Adds a method.
    ///
    /// - Parameters:
    ///   - path: `/package.Service/Method`.
    ///   - method: makes the handler of one call. It may read the call's metadata, and `finish` it at once.
    public func register(_ path: String, _ method: @escaping Method) { methods[path] = method }

    /// Adds a method of one message there and one back.
    ///
    /// - Parameter method: calls `reply` once, now or later on the loop; a reply to a call that has ended is dropped.
    public func registerUnary(
        _ path: String,
        _ method:
            @escaping (
                _ call: GRPCServerCall, _ request: [UInt8],
                _ reply: @escaping (Result<[UInt8], GRPCStatus>) -> Void
            ) -> Void
    ) {
        registerUnary(path, messageLimit: .max, admit: { _ in .success(()) }) { call, _, request, reply in
            method(call, request, reply)
        }
    }

    /// The same for a method that not everybody may call.
    ///
    /// - Parameters:
    ///   - messageLimit: bytes of the request, below the server's own limit.
    ///   - admit: decides by the call's headers and peer, before anything of the request is kept. What it finds out goes
    ///     to the method; a failure ends the call.
    public func registerUnary<Admitted>(
        _ path: String, messageLimit: Int,
        admit: @escaping (GRPCServerCall) -> Result<Admitted, GRPCStatus>,
        _ method:
            @escaping (
                _ call: GRPCServerCall, _ admitted: Admitted, _ request: [UInt8],
                _ reply: @escaping (Result<[UInt8], GRPCStatus>) -> Void
            ) -> Void
    ) {
        register(path) { call in
            switch admit(call) {
            case .success(let admitted):
                call.limitMessages(to: messageLimit)
                return UnaryServerHandler { call, request, reply in method(call, admitted, request, reply) }
            case .failure(let status):
                call.finish(status)
                return RefusedCall()
            }
        }
    }

    func method(_ path: String) -> Method? { methods[path] }

    /// Takes over an accepted connection.
    public func accept(_ socket: consuming Socket, tls: TLSSession?) throws(SystemCallError) {
        guard !isDraining, channels.count - leavingCount < configuration.channelLimit || makeRoom() else {
            return GRPCMetrics.shared.refusedConnections.add()
        }
        let channel = try HTTP2Channel.server(
            on: loop, socket: socket, tls: tls, configuration: configuration.channel, delegate: self)
        acceptedCount += 1
        channels[ObjectIdentifier(channel)] = Entry(channel: channel, number: acceptedCount)
    }

    public var channelCount: Int { channels.count }

    /// Ends connections without a call: anyone may connect before proving who it is, and must not keep out those who can.
    /// First those without a client certificate, the oldest first; a sixteenth of the limit at a time, so that a flood of
    /// connections does not sort them all each time.
    private func makeRoom() -> Bool {
        let idle = channels.filter { !$0.value.isLeaving && $0.value.channel.openStreams == 0 }
            .sorted { a, b in
                let (first, second) = (a.value.channel.peer != nil, b.value.channel.peer != nil)
                return first == second ? a.value.number < b.value.number : !first
            }
        for (id, entry) in idle.prefix(max(1, configuration.channelLimit / 16)) {
            channels[id]?.isLeaving = true
            leavingCount += 1
            GRPCMetrics.shared.evictedConnections.add()
            entry.channel.close()
        }
        return !idle.isEmpty
    }

    /// Takes no new calls and lets those that run finish.
    ///
    /// - Parameter completion: called when the last connection has ended; at once when there is none.
    public func drain(_ completion: @escaping () -> Void) {
        isDraining = true
        onDrained = completion
        for entry in Array(channels.values) { entry.channel.drain() }
        finishDrain()
    }

    /// Ends every connection and its calls, and takes no more.
    public func close() {
        isDraining = true
        closeConnections()
    }

    /// Ends every connection and its calls: clients that come back are served.
    public func closeConnections() {
        for entry in Array(channels.values) { entry.channel.close() }
    }

    private func finishDrain() {
        guard isDraining, channels.isEmpty, let completion = onDrained else { return }
        onDrained = nil
        completion()
    }

    // MARK: HTTP2ChannelDelegate

    public func channelReady(_ channel: HTTP2Channel) {}

    public func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        GRPCServerCall(self, on: channel)
    }

    public func channelCapacityChanged(_ channel: HTTP2Channel) {}

    public func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        let entry = channels.removeValue(forKey: ObjectIdentifier(channel))
        if entry?.isLeaving == true { leavingCount -= 1 }
        finishDrain()
    }
}

/// The handler of a call that was finished when it came: nothing of what follows is read.
public final class RefusedCall: GRPCServerHandler {
    public init() {}
    public func received(_ message: [UInt8], on call: GRPCServerCall) {}
}

/// Waits for the one message of a unary call.
private final class UnaryServerHandler: GRPCServerHandler {
    typealias Method = (GRPCServerCall, [UInt8], @escaping (Result<[UInt8], GRPCStatus>) -> Void) -> Void

    private let method: Method
    private var request: [UInt8]?

    init(_ method: @escaping Method) {
        self.method = method
    }

    func received(_ message: [UInt8], on call: GRPCServerCall) {
        guard request == nil else {
            return call.finish(GRPCStatus(.unimplemented, "a unary call had two requests"))
        }
        request = message
    }

    func halfClosed(_ call: GRPCServerCall) {
        guard let request else {
            return call.finish(GRPCStatus(.unimplemented, "a unary call had no request"))
        }
        self.request = []
        method(call, request) { result in
            guard !call.isFinished else { return }
            switch result {
            case .success(let message):
                call.send(message)
                call.finish(.ok)
            case .failure(let status): call.finish(status)
            }
        }
    }
}
