import Address
import EventLoop
import HTTP1
import Linux
import Synchronization
import Testing

@testable import Transport

struct HTTP1ServerTests {
    /// A server with a few pages, on a loop that the test turns.
    private final class ServerRig: Rig {
        var server: HTTP1Server?
        var address: SocketAddress?
        var held: [HTTP1Exchange] = []

        init(_ configuration: HTTP1Server.Configuration = .init()) throws {
            super.init(try EventLoop(name: "http1"))
            let socket = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0))
            address = socket.localAddress
            server = try HTTP1Server(on: loop, socket, configuration) { [unowned self] exchange in
                answer(exchange)
            }
        }

        private func answer(_ exchange: HTTP1Exchange) {
            switch exchange.request.path {
            case "/big":
                exchange.respond(HTTP1Response(status: 200, body: .init(repeating: 7, count: 5_000_000)))
            case "/echo": exchange.respond(HTTP1Response(status: 200, body: exchange.request.body))
            case "/later": held.append(exchange)
            default: exchange.respond(HTTP1Response(status: 404, text: "nothing here\n"))
            }
        }
    }

    private final class Client {
        let socket: Socket
        var received: [UInt8] = []
        var isEnded = false

        init(_ rig: ServerRig) throws {
            guard let address = rig.address else { throw TestTimeout(what: "no address") }
            socket = try Socket.connect(to: address)
            try rig.until("connected") { self.socket.waitUntilWritable(milliseconds: 0) }
        }

        func send(_ text: String) {
            _ = unsafe Array(text.utf8).withUnsafeBytes { unsafe socket.write($0) }
        }

        func receive() {
            unsafe withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { buffer in
                switch unsafe socket.read(into: buffer) {
                case .bytes(let count): unsafe received += buffer[..<count]
                case .wouldBlock: break
                case .end, .failed: isEnded = true
                }
            }
        }

        var text: String { String(decoding: received, as: UTF8.self) }
    }

    @Test func `requests of one connection are answered in order, pipelined ones too`() throws {
        let rig = try ServerRig()
        let client = try Client(rig)
        for number in 0..<20 {
            client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\(100 + number)")
        }
        client.send("GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        try rig.until("the server has closed") {
            client.receive()
            return client.isEnded
        }
        #expect(client.text.ranges(of: "HTTP/1.1 200").count == 20)
        var position = client.text.startIndex
        for number in 0..<20 {
            let range = try #require(client.text[position...].firstRange(of: "\r\n\r\n\(100 + number)"))
            position = range.upperBound
        }
        #expect(client.text.hasSuffix("nothing here\n"))
        try rig.until("the connection is gone") { rig.server?.connectionCount == 0 }
    }

    @Test func `a large answer reaches a client that reads slowly`() throws {
        let rig = try ServerRig()
        let client = try Client(rig)
        client.send("GET /big HTTP/1.0\r\n\r\n")
        try rig.until("all has come") {
            client.receive()
            return client.isEnded
        }
        #expect(client.received.count > 5_000_000 && client.received.suffix(5_000_000).allSatisfy { $0 == 7 })
    }

    @Test func `an answer may come later, and a client that has gone does no harm`() throws {
        let rig = try ServerRig()
        do {
            let client = try Client(rig)
            client.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            try rig.until("asked") { rig.held.count == 1 }
            rig.held.removeFirst().respond(HTTP1Response(status: 200, text: "late"))
            try rig.until("answered") {
                client.receive()
                return client.text.hasSuffix("late")
            }
            client.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
            try rig.until("asked again") { rig.held.count == 1 }
        }
        rig.held.removeFirst().respond(HTTP1Response(status: 200, text: "too late"))
        try rig.until("the connection is gone") { rig.server?.connectionCount == 0 }
    }

    @Test(arguments: ["", "GET / HT", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"])
    func `a client that does not finish its request in time is let go`(text: String) throws {
        var configuration = HTTP1Server.Configuration()
        configuration.requestDeadline = .milliseconds(20)
        configuration.idleDeadline = .milliseconds(20)
        let rig = try ServerRig(configuration)
        let client = try Client(rig)
        client.send(text)
        try rig.until("the server has closed") {
            client.receive()
            return client.isEnded
        }
        #expect(rig.server?.connectionCount == 0 && rig.loop.armedTimerCount == 0)
    }

    @Test func `what is no request is answered with 400 and the end`() throws {
        let rig = try ServerRig()
        let client = try Client(rig)
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        try rig.until("the server has closed") {
            client.receive()
            return client.isEnded
        }
        #expect(client.text.hasPrefix("HTTP/1.1 "))
        #expect(client.text.contains("connection: close") || client.text.contains("Connection: close"))
    }

    @Test func `over the limit those that wait make room, the oldest first`() throws {
        var configuration = HTTP1Server.Configuration()
        configuration.connectionLimit = 3
        let rig = try ServerRig(configuration)
        let clients = try (0..<5).map { _ in try Client(rig) }
        try rig.until("two are closed") {
            for client in clients { client.receive() }
            return clients.count { $0.isEnded } == 2
        }
        #expect(clients[0].isEnded && clients[1].isEnded)
        #expect(rig.server?.connectionCount == 3)
        clients[4].send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        try rig.until("the newest is answered") {
            clients[4].receive()
            return clients[4].text.hasSuffix("nothing here\n")
        }
        rig.server?.close()
        try rig.until("all are gone") { rig.server?.connectionCount == 0 && rig.loop.registrationCount == 0 }
    }

    @Test func `a connection over the limit is closed when each of the others is being answered`() throws {
        var configuration = HTTP1Server.Configuration()
        configuration.connectionLimit = 2
        let rig = try ServerRig(configuration)
        let busy = try (0..<2).map { _ in try Client(rig) }
        for client in busy { client.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n") }
        try rig.until("both are asked") { rig.held.count == 2 }
        let late = try Client(rig)
        try rig.until("refused") {
            late.receive()
            return late.isEnded
        }
        for exchange in rig.held { exchange.respond(HTTP1Response(status: 200, text: "late")) }
        try rig.until("both are answered") {
            for client in busy { client.receive() }
            return busy.allSatisfy { $0.text.hasSuffix("late") }
        }
        rig.server?.close()
        try rig.until("all are gone") { rig.server?.connectionCount == 0 && rig.loop.registrationCount == 0 }
    }

    @Test func `a Unix socket tells who asks, and curl understands the answer`() throws {
        let path = "/tmp/warren-http1-" + randomBytes(8).map { String($0, radix: 16) }.joined() + ".sock"
        defer { try? removeFile(path) }
        let thread = try EventLoop.start(name: "admin") { loop in
            guard let socket = try? Socket.listen(onPath: path) else { return }
            let server = try? HTTP1Server(on: loop, socket) { exchange in
                let uid = exchange.peerCredentials.map { "\($0.uid)" } ?? "nobody"
                exchange.respond(HTTP1Response(status: 200, text: "asked by \(uid)"))
            }
            loop.schedule(after: .seconds(600)) { server?.close() }
        }
        var options = ChildProcess.Options()
        options.output = .piped
        while FileKind(of: path) == nil { _ = try EventDescriptor().wait(milliseconds: 5) }
        var child = try ChildProcess.start(
            "curl", ["-sS", "--max-time", "10", "--unix-socket", path, "http://admin/ready"], options)
        #expect(try child.wait() == .exited(0))
        #expect(output(of: child.standardOutput.take()) == "asked by \(Privileges.userID)")
        thread.stop()
        thread.join()
    }
}

/// Everything that a child has written.
func output(of end: consuming PipeEnd?) -> String {
    guard let end else { return "" }
    var bytes: [UInt8] = []
    unsafe withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { buffer in
        while end.waitUntilReadable(milliseconds: 10_000) {
            guard case .bytes(let count) = unsafe end.read(into: buffer) else { return }
            unsafe bytes += buffer[..<count]
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}
