import Address
import EventLoop
import HTTP2
import Linux
import Synchronization
import Testing

@testable import Transport

/// The driver against peers that we did not write: curl, nghttp and h2load, in the clear with prior knowledge.
@Suite(.serialized) struct InteropTests {
    /// Answers GET with so many bytes as its path says, and echoes what it is sent.
    private final class PageStream: HTTP2Stream {
        private var left = 0
        private var echo: [UInt8] = []

        override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
            left = Int(headers.path?.dropFirst() ?? "") ?? 0
            sendHeaders(HeaderBlock(status: 200), endStream: false)
            if endStream { writable() }
        }

        override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
            let sent = echo.isEmpty ? unsafe send(bytes) : 0
            consumed(sent)
            unsafe echo += bytes[sent...]
            if endStream { writable() }
        }

        override func writable() {
            let sent = unsafe echo.withUnsafeBytes { unsafe send($0) }
            echo.removeFirst(sent)
            consumed(sent)
            guard echo.isEmpty, isRemoteEnded else { return }
            while left > 0 {
                guard let room = unsafe reserve(left) else { return }
                for index in 0..<room.count { unsafe room[index] = 0x61 }
                left -= room.count
                commit(room.count, endStream: left == 0)
            }
            if !isLocalEnded { finish() }
        }
    }

    private final class Pages: HTTP2ChannelDelegate {
        func channelReady(_ channel: HTTP2Channel) {}
        func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
            PageStream()
        }
        func channelCapacityChanged(_ channel: HTTP2Channel) {}
        func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {}
    }

    /// Runs a program against a server of pages, and gives what it printed.
    private func run(_ program: String, _ arguments: (String) -> [String]) throws -> String {
        let address = Mutex<SocketAddress?>(nil)
        let ready = try EventDescriptor()
        let thread = try EventLoop.start(name: "pages") { loop in
            guard let socket = try? Socket.listen(on: SocketAddress(.loopbackIPv4, 0)) else { return }
            let bound = socket.localAddress
            let pages = Pages()
            let listener = try? Listener(on: loop, socket) { accepted in
                _ = try? HTTP2Channel.server(on: loop, socket: accepted.socket, tls: nil, delegate: pages)
            }
            loop.schedule(after: .seconds(600)) { [pages] in
                listener?.close()
                _ = pages
            }
            address.withLock { $0 = bound }
            loop.mailbox.post { _ in }
        }
        while address.withLock({ $0 }) == nil { ready.wait(milliseconds: 1) }
        defer {
            thread.stop()
            thread.join()
        }
        let text = address.withLock { $0.map { "\($0)" } } ?? ""
        var options = ChildProcess.Options()
        options.output = .piped
        var child = try ChildProcess.start(program, arguments(text), options)
        let printed = output(of: child.standardOutput.take())
        #expect(try child.wait() == .exited(0))
        return printed
    }

    @Test(arguments: [0, 1, 65_536, 10_000_000]) func `curl gets pages of any size`(byteCount: Int) throws {
        let printed = try run("curl") {
            [
                "-sS", "--max-time", "20", "--http2-prior-knowledge", "-o", "/dev/null", "-w",
                "%{http_code} %{http_version} %{size_download}", "http://\($0)/\(byteCount)",
            ]
        }
        #expect(printed == "200 2 \(byteCount)")
    }

    @Test func `curl gets back what it uploads`() throws {
        let path = "/tmp/warren-upload-" + randomBytes(8).map { String($0, radix: 16) }.joined()
        defer { try? removeFile(path) }
        try writeFileAtomically(path, (0..<3_000_000).map { pattern($0) })
        let printed = try run("curl") {
            [
                "-sS", "--max-time", "20", "--http2-prior-knowledge", "--data-binary", "@\(path)", "-o",
                path + ".back",
                "-w", "%{http_code} %{size_upload} %{size_download}", "http://\($0)/0",
            ]
        }
        defer { try? removeFile(path + ".back") }
        #expect(printed == "200 3000000 3000000")
        #expect(try readFile(path) == readFile(path + ".back"))
    }

    @Test func `nghttp gets many pages over one connection with padding and small windows`() throws {
        let printed = try run("nghttp") { address in
            ["-ns", "-b", "100", "-w", "16", "-W", "17"] + (1...20).map { "http://\(address)/\($0 * 10_000)" }
        }
        #expect(printed.split(separator: "\n").count { $0.contains(" 200 ") } == 20, "\(printed)")
    }

    @Test func `h2load finds no failed request among ten thousand`() throws {
        let printed = try run("h2load") { ["-n10000", "-c8", "-m50", "http://\($0)/1024"] }
        #expect(printed.contains("10000 succeeded, 0 failed, 0 errored, 0 timeout"), "\(printed)")
    }

    @Test func `h2load finds no failed request among large ones`() throws {
        let printed = try run("h2load") { ["-n64", "-c4", "-m8", "http://\($0)/2000000"] }
        #expect(printed.contains("64 succeeded, 0 failed, 0 errored, 0 timeout"), "\(printed)")
    }
}
