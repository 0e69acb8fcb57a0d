import EventLoop
import HTTP2
import Linux
import TLS
import Transport

/// Answers GET with a line, and everything else with its own content.
final class EchoHTTP2: HTTP2ChannelDelegate {
    private let loop: EventLoop
    private var channels: [ObjectIdentifier: HTTP2Channel] = [:]

    init(on loop: EventLoop) { self.loop = loop }

    func accept(_ socket: consuming Socket, tls: TLSSession?) throws {
        let channel = try HTTP2Channel.server(on: loop, socket: socket, tls: tls, delegate: self)
        channels[ObjectIdentifier(channel)] = channel
    }

    func channelReady(_ channel: HTTP2Channel) {}
    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        EchoStream()
    }
    func channelCapacityChanged(_ channel: HTTP2Channel) {}
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        channels[ObjectIdentifier(channel)] = nil
        say("closed \(reason)")
    }
}

private final class EchoStream: HTTP2Stream {
    private var waiting: [UInt8] = []
    private var hasEnded = false

    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        var response = HeaderBlock(status: 200)
        response.append("content-type", "text/plain")
        sendHeaders(response, endStream: false)
        if headers.method == "GET" { waiting += Array("hello\n".utf8) }
        hasEnded = endStream
        if endStream || !waiting.isEmpty { writable() }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        unsafe waiting += bytes
        hasEnded = endStream
        writable()
    }

    override func trailersReceived(_ trailers: HeaderBlock) {
        hasEnded = true
        writable()
    }

    override func writable() {
        let sent = unsafe waiting.withUnsafeBytes { unsafe send($0, endStream: hasEnded) }
        waiting.removeFirst(sent)
        // What was sent back makes room for more: an echo holds at most one window.
        if unconsumedBytes > waiting.count { consumed(unconsumedBytes - waiting.count) }
    }
}
