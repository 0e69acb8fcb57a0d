import Address
import Testing

@testable import Linux

struct SocketTests {
    @Test(arguments: ["127.0.0.1:0", "[::1]:0"])
    func `connects, tells both addresses and carries bytes both ways`(text: String) throws {
        let address = try #require(SocketAddress(text))
        let listener = try Socket.listen(on: address, ListenOptions(v6Only: true))
        let there = try boundAddress(listener)
        #expect(try nothingWaits(listener))
        let client = try Socket.connect(to: there)
        let accepted = try waitForConnection(listener)
        #expect(client.reference.isReadable(within: 0) == false)
        #expect(client.connectError() == 0)
        #expect(accepted.peer == client.localAddress)
        #expect(client.peerAddress == there)
        #expect(unsafe [1, 2, 3].withUnsafeBytes { unsafe client.write($0) } == .bytes(24))
        #expect(readBytes(accepted.socket).count == 24)
    }

    @Test func `reads the end after the bytes when the peer shuts down`() throws {
        let pair = try Socket.pair()
        writeText("last words", to: pair.first)
        pair.first.shutdownWrite()
        #expect(readBytes(pair.second) == Array("last words".utf8))
        #expect(readOnce(pair.second) == .end)
        // The other direction still works.
        writeText("reply", to: pair.second)
        #expect(readBytes(pair.first) == Array("reply".utf8))
    }

    @Test func `a reset reaches the peer as an error, not as an end`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")))
        let client = try Socket.connect(to: boundAddress(listener))
        let accepted = try waitForConnection(listener)
        accepted.socket.reset()
        #expect(client.reference.isReadable(within: 5_000))
        guard case .failed = readOnce(client) else {
            Issue.record("the reset was read as something else")
            return
        }
    }

    @Test func `neither a connection over loopback nor what its listener accepts is paced`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")))
        listener.setUnpaced()
        let client = try Socket.connect(to: boundAddress(listener), ConnectOptions(isLocal: true))
        let accepted = try waitForConnection(listener)
        #expect(client.congestionControl == "reno" && accepted.socket.congestionControl == "reno")
    }

    @Test func `sends by the first congestion control that the kernel has`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")))
        let before = listener.congestionControl
        let nobodys = listener.setCongestionControl(firstOf: ["nobodys", "neither"])
        #expect(!before.isEmpty && nobodys == nil && listener.congestionControl == before)
        let chosen = listener.setCongestionControl(firstOf: ["nobodys", "reno"])
        #expect(chosen == "reno")
        let client = try Socket.connect(
            to: boundAddress(listener), ConnectOptions(congestionControls: ["nobodys", "reno"]))
        let accepted = try waitForConnection(listener)
        #expect(client.congestionControl == "reno" && accepted.socket.congestionControl == "reno")
        #expect(try Socket.hasCongestionControl("reno"))
        #expect(try !Socket.hasCongestionControl("nobodys"))
    }

    @Test func `a handshake tells how long the path is`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")))
        let client = try Socket.connect(to: boundAddress(listener))
        let accepted = try waitForConnection(listener)
        let trips = (client.shortestRoundTrip, accepted.socket.shortestRoundTrip)
        #expect(try #require(trips.0) > .zero)
        #expect(try #require(trips.1) > .zero)
    }

    @Test func `a refused connection shows in SO_ERROR`() throws {
        let free = try freeAddress()
        let client = try Socket.connect(to: free)
        #expect(client.reference.isReadable(within: 5_000))
        #expect(client.connectError() != 0)
    }

    /// The kernel answers within the call unless it has put the loopback's packets off; either way nothing is lost.
    @Test func `a connection within the namespace is made at once or as any other`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")))
        let dialled = try Socket.dial(boundAddress(listener), ConnectOptions(isLocal: true))
        let accepted = try waitForConnection(listener)
        let isMade = dialled.isConnected || dialled.socket.waitUntilWritable(milliseconds: 5_000)
        let failure = dialled.socket.connectError()
        #expect(isMade && failure == 0)
        writeText("at once", to: dialled.socket)
        #expect(readBytes(accepted.socket) == Array("at once".utf8))
        let free = try freeAddress()
        do throws(SystemCallError) {
            let refused = try Socket.dial(free, ConnectOptions(isLocal: true))
            let isOver = refused.socket.waitUntilReadable(milliseconds: 5_000)
            let failure = refused.socket.connectError()
            #expect(isOver && failure != 0)
        } catch {
            #expect(error.isRefused)
        }
    }

    @Test func `a dual-stack listener shows IPv4 peers as IPv4`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("[::]:0")))
        let port = try boundAddress(listener).port
        let client = try Socket.connect(to: SocketAddress(.loopbackIPv4, port))
        let accepted = try waitForConnection(listener)
        #expect(accepted.peer == client.localAddress)
        #expect(accepted.peer?.address.isIPv4 == true)
    }

    @Test func `several listeners share one port with reusePort`() throws {
        let options = ListenOptions(reusePort: true)
        let first = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")), options)
        let address = try boundAddress(first)
        let second = try Socket.listen(on: address, options)
        #expect(second.localAddress == address)
        #expect(throws: SystemCallError.self) { _ = try Socket.listen(on: address) }
    }

    @Test(.enabled(if: Privileges.has(.netAdmin)))
    func `marks and transparent sources are set when asked for`() throws {
        let listener = try Socket.listen(on: try #require(SocketAddress("127.0.0.1:0")))
        let source = try #require(SocketAddress("127.0.0.9:0"))
        let client = try Socket.connect(
            to: boundAddress(listener), from: source, ConnectOptions(mark: 0x539, transparent: true))
        #expect(client.mark == 0x539)
        let accepted = try waitForConnection(listener)
        #expect(accepted.peer?.address == source.address)
    }

    @Test func `a source of the other family is refused`() throws {
        let four = try #require(SocketAddress("127.0.0.1:9"))
        let six = try #require(SocketAddress("[::1]:0"))
        #expect(throws: SystemCallError.self) { _ = try Socket.connect(to: four, from: six) }
    }

    @Test func `a Unix listener is private from birth and knows who connects`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/admin.sock"
        let listener = try Socket.listen(onPath: path)
        #expect(try fileMode(path) == 0o600)
        let client = try Socket.connect(toPath: path)
        let accepted = try waitForConnection(listener)
        #expect(accepted.peer == nil)
        #expect(accepted.socket.peerCredentials?.uid == Privileges.userID)
        #expect(client.peerAddress == nil)
    }

    @Test func `a Unix listener replaces a dead socket and respects a live one`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/admin.sock"
        do { _ = try Socket.listen(onPath: path) }
        #expect(FileKind(of: path) == .socket)
        let living = try Socket.listen(onPath: path)
        #expect(throws: SystemCallError.self) { _ = try Socket.listen(onPath: path) }
        _ = living.reference
    }

    @Test func `a Unix listener wants a directory that others cannot write`() throws {
        let directory = try TemporaryDirectory(mode: 0o777)
        #expect(throws: SystemCallError.self) { _ = try Socket.listen(onPath: directory.path + "/a.sock") }
    }

    @Test func `an overlong Unix path is refused`() {
        #expect(throws: SystemCallError.self) {
            _ = try Socket.connect(toPath: "/tmp/" + String(repeating: "x", count: 108))
        }
    }

    @Test func `pieces are written in order with one call`() throws {
        let pair = try Socket.pair()
        let first = Array("one ".utf8)
        let second = Array("two".utf8)
        let result = unsafe first.withUnsafeBytes { one in
            unsafe second.withUnsafeBytes { two in unsafe pair.first.write(gathered: [one, two]) }
        }
        #expect(result == .bytes(7))
        #expect(readBytes(pair.second) == Array("one two".utf8))
    }

    @Test func `a parcel gives its socket once, and closes it when nobody takes it`() throws {
        let pair = try Socket.pair()
        let peer = pair.first
        let parcel = Parcel(pair.second)
        let thread = try Thread.start(name: "receiver") {
            if let socket = parcel.take() { socket.shutdownWrite() }
        }
        thread.join()
        let isEmpty = parcel.take() == nil
        #expect(isEmpty)
        #expect(readOnce(peer) == .end)
        let other = try Socket.pair()
        let left = other.first
        do { _ = Parcel(other.second) }
        #expect(readOnce(left) == .end)
    }

    @Test func `bytes pass from socket to socket through a pipe`() throws {
        let left = try Socket.pair()
        let right = try Socket.pair()
        let pipe = try Pipe()
        #expect(pipe.setCapacity(65_536) >= 65_536)
        #expect(splice(from: left.second, to: pipe.writeEnd, 1_000) == .wouldBlock)
        writeText("unseen", to: left.first)
        #expect(splice(from: left.second, to: pipe.writeEnd, 1_000) == .bytes(6))
        #expect(splice(from: pipe.readEnd, to: right.first, 1_000) == .bytes(6))
        #expect(readBytes(right.second) == Array("unseen".utf8))
        left.first.shutdownWrite()
        #expect(splice(from: left.second, to: pipe.writeEnd, 1_000) == .end)
    }
}
