import EventLoop
import GRPC
import Linux

/// The methods of test.Echo. Messages are plain bytes.
final class EchoService {
    let server: GRPCServer
    private var cancelled = 0

    init(on loop: EventLoop) {
        var configuration = GRPCServer.Configuration()
        configuration.limits.message = 64 << 20
        server = GRPCServer(on: loop, configuration)
        let prefix = "/test.Echo/"
        // Sends each message back.
        server.register(prefix + "Unary") { _ in Echo() }
        server.register(prefix + "Stream") { _ in Echo() }
        // Ends at once with the status and message of the metadata.
        server.register(prefix + "Fail") { call in
            let code = call.metadata["x-code"].flatMap { Int($0) }.flatMap(GRPCStatus.Code.init(rawValue:))
            let message = call.metadata.binary("x-message-bin") ?? []
            call.finish(GRPCStatus(code ?? .unknown, String(decoding: message, as: UTF8.self)))
            return Echo()
        }
        // Never answers.
        server.register(prefix + "Hang") { [weak self] _ in
            Hang { self?.cancelled += 1 }
        }
        // How many hanging calls were cancelled, or ran out of time.
        server.registerUnary(prefix + "Cancelled") { [weak self] _, _, reply in
            reply(.success(Array("\(self?.cancelled ?? 0)".utf8)))
        }
        // The names in the client's certificate.
        server.registerUnary(prefix + "Peer") { call, _, reply in
            reply(.success(Array((call.peer?.uris.joined(separator: ",") ?? "nobody").utf8)))
        }
        // Metadata there and back, in front and behind.
        server.register(prefix + "Metadata") { call in
            var metadata = GRPCMetadata()
            metadata.append("x-text", call.metadata["x-text"] ?? "")
            metadata.append("x-raw-bin", binary: call.metadata.binary("x-raw-bin") ?? [])
            call.sendMetadata(metadata)
            call.finish(.ok, trailers: metadata)
            return Echo()
        }
        // As many bytes as the request says.
        server.registerUnary(prefix + "Large") { _, request, reply in
            let count = Int(String(decoding: request, as: UTF8.self)) ?? 0
            reply(.success((0..<count).map { UInt8(truncatingIfNeeded: $0) }))
        }
        // Sends as many numbered messages as the request says, as fast as they are taken.
        server.register(prefix + "Flood") { _ in Flood() }
        // Takes no more calls on any connection; this one goes on.
        server.register(prefix + "Drain") { [weak self] _ in
            self?.server.drain { say("drained") }
            return Echo()
        }
    }
}

private final class Echo: GRPCServerHandler {
    private var isPaused = false

    func received(_ message: [UInt8], on call: GRPCServerCall) {
        call.send(message)
        // Pace: what is not taken back must not pile up here.
        if !call.isReady {
            isPaused = true
            call.pause()
        }
    }

    func ready(_ call: GRPCServerCall) {
        guard isPaused else { return }
        isPaused = false
        call.resume()
    }

    func halfClosed(_ call: GRPCServerCall) { call.finish(.ok) }
}

private final class Hang: GRPCServerHandler {
    private let onClosed: () -> Void

    init(_ onClosed: @escaping () -> Void) { self.onClosed = onClosed }

    func received(_ message: [UInt8], on call: GRPCServerCall) {}
    func closed(_ call: GRPCServerCall, _ status: GRPCStatus) {
        say("hang ended \(status)")
        onClosed()
    }
}

private final class Flood: GRPCServerHandler {
    private var left = 0
    private var next = 0

    func received(_ message: [UInt8], on call: GRPCServerCall) {
        left = Int(String(decoding: message, as: UTF8.self)) ?? 0
        ready(call)
    }

    func ready(_ call: GRPCServerCall) {
        while left > 0, call.isReady {
            call.send(Array("\(next)".utf8))
            next += 1
            left -= 1
        }
        if left == 0 { call.finish(.ok) }
    }
}
