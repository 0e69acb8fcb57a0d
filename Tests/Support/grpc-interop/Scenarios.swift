import Address
import EventLoop
import GRPC
import Glibc
import Linux
import TLS

/// One thing that a client does, told on standard output: `status CODE MESSAGE` at the end, and what led to it.
final class Scenario: GRPCClientHandler {
    private let loop: EventLoop
    private let channel: GRPCChannel
    private let name: String
    private let argument: Int
    private var sent = 0
    private var received = 0
    private var content: [UInt8] = []
    private var isWrong = false

    init(on loop: EventLoop, port: UInt16, tls: TLSContext?, name: String, argument: Int) throws {
        self.loop = loop
        self.name = name
        self.argument = argument
        let server = SocketAddress(.loopbackIPv4, port)
        var configuration = GRPCChannel.Configuration(authority: "localhost:\(port)")
        configuration.firstBackoff = .milliseconds(50)
        configuration.channel.keepAliveInterval = .milliseconds(500)
        configuration.channel.keepAliveDeadline = .seconds(1)
        channel = GRPCChannel(on: loop, configuration, tls: tls) { (_) throws(SystemCallError) in
            try Socket.connect(to: server)
        }
    }

    func start() {
        switch name {
        case "unary": unary("Unary", Array("hello".utf8))
        case "peer": unary("Peer", [])
        case "large": unary("Unary", (0..<argument).map { UInt8(truncatingIfNeeded: $0) })
        case "fail":
            var metadata: GRPCMetadata = ["x-code": "\(argument)"]
            metadata.append("x-message-bin", binary: Array("50% \n ä".utf8))
            _ = channel.call("/test.Echo/Fail", metadata: metadata, handler: self)
        case "unknown": unary("NoSuchMethod", [])
        case "deadline":
            _ = channel.call("/test.Echo/Hang", timeout: .milliseconds(argument), handler: self)
        case "metadata":
            var metadata: GRPCMetadata = ["x-text": "some text"]
            metadata.append("x-raw-bin", binary: [0, 1, 254, 255])
            let call = channel.call("/test.Echo/Metadata", metadata: metadata, handler: self)
            call.halfClose()
        case "stream", "cancel", "hold", "drain":
            let method = name == "drain" ? "Drain" : "Stream"
            callIsReady(channel.call("/test.Echo/\(method)", handler: self))
        case "repeat": next()
        default: end("error", "no scenario \(name)")
        }
    }

    private func end(_ code: String, _ message: String) {
        say("status \(code) \(message)")
        exit(isWrong ? 1 : 0)
    }

    private func unary(_ method: String, _ message: [UInt8]) {
        channel.unary("/test.Echo/\(method)", message) { [self] result in
            switch result {
            case .success(let answer):
                if name == "large", answer != message { isWrong = true }
                say(
                    name == "large"
                        ? "bytes \(answer.count)" : "message \(String(decoding: answer, as: UTF8.self))")
                end("ok", "")
            case .failure(let status): end("\(status.code)", status.message)
            }
        }
    }

    /// Unary calls one behind the other, whatever becomes of the connections.
    private func next() {
        guard sent < argument else { return end("ok", "") }
        sent += 1
        channel.unary("/test.Echo/Unary", Array("\(sent)".utf8), waitsForReady: true) { [self] result in
            switch result {
            case .success(let answer): say("message \(String(decoding: answer, as: UTF8.self))")
            case .failure(let status): say("failed \(status.code) \(status.message)")
            }
            _ = loop.schedule(after: .milliseconds(20)) { self.next() }
        }
    }

    // MARK: GRPCClientHandler

    func call(_ call: GRPCClientCall, metadata: GRPCMetadata) {
        guard name == "metadata" else { return }
        say("initial \(metadata["x-text"] ?? "-") \(metadata.binary("x-raw-bin") ?? [])")
    }

    func callIsReady(_ call: GRPCClientCall) {
        let count = name == "stream" ? argument : 1
        while sent < count, call.isReady {
            call.send(Array("message \(sent)".utf8))
            sent += 1
        }
        if name == "stream", sent == count { call.halfClose() }
    }

    func call(_ call: GRPCClientCall, received message: [UInt8]) {
        if message != Array("message \(received)".utf8) { isWrong = true }
        received += 1
        switch name {
        case "cancel": call.cancel()
        case "hold": say("holding")
        case "drain":
            // The server has said GOAWAY: this call still works, and ends well.
            if received < argument {
                call.send(Array("message \(received)".utf8))
            } else {
                call.halfClose()
            }
        default: break
        }
    }

    func call(_ call: GRPCClientCall, ended status: GRPCStatus, trailers: GRPCMetadata) {
        if name == "metadata" {
            say("trailing \(trailers["x-text"] ?? "-") \(trailers.binary("x-raw-bin") ?? [])")
        }
        say("received \(received)")
        end("\(status.code)", status.message)
    }
}
