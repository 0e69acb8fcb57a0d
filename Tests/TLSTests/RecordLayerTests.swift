import COpenSSL
import TLSTestSupport
import TestSupport
import Testing

@testable import TLS

/// Our records against libssl's, in one connection, and the moment at which ours take over.
struct RecordLayerTests {
    /// The layers of a client and a server.
    struct Layers: Sendable, CustomStringConvertible {
        let client: RecordLayer
        let server: RecordLayer
        var description: String { "\(client) and \(server)" }
    }

    static let mixed = [Layers(client: .own, server: .libssl), Layers(client: .libssl, server: .own)]
    static let suites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]

    private func pair(
        _ layers: Layers, suite: String = suites[0], _ change: (inout TLSConfiguration) -> Void = { _ in },
        tickets: Int = 0
    ) throws -> Pair {
        let (realm, alice, bob) = try RecordTests.contexts.get()
        var client = realm.client(alice)
        var server = realm.server(bob)
        change(&client)
        change(&server)
        client.records = layers.client
        server.records = layers.server
        let clientContext = try TLSContext(client)
        let serverContext = try TLSContext(server)
        unsafe SSL_CTX_set_ciphersuites(clientContext.pointer, suite)
        unsafe SSL_CTX_set_num_tickets(serverContext.pointer, tickets)
        return try Pair(client: clientContext, server: serverContext, expecting: [realm.uri("bob")])
    }

    @Test(arguments: mixed, suites)
    func `each layer reads what the other writes, cut anywhere`(layers: Layers, suite: String) throws {
        let pair = try pair(layers, suite: suite) { $0.recordsPerKey = 50 }
        try pair.establish()
        #expect(pair.client.cipherSuite == suite && pair.server.cipherSuite == suite)
        var random = SeededGenerator(seed: 31)
        for round in 0..<150 {
            let bytes = random.bytes(Int.random(in: 1...(round % 5 == 0 ? 90_000 : 900), using: &random))
            let toServer = round % 2 == 0
            let (from, to) = toServer ? (pair.client, pair.server) : (pair.server, pair.client)
            if round % 7 == 0 { from.renewKeys() }
            try from.write(bytes)
            var sealed = from.takeOutput()[...]
            var plain: [UInt8] = []
            while !sealed.isEmpty {
                let part = Array(sealed.prefix(Int.random(in: 1...9_000, using: &random)))
                sealed = sealed.dropFirst(part.count)
                plain += try to.readAll(part, area: Int.random(in: 1...40_000, using: &random)).plain
            }
            #expect(plain == bytes)
        }
        pair.client.close()
        #expect(try pair.server.readAll(pair.client.takeOutput()).closed)
        try pair.server.write(Array("answer".utf8))
        pair.server.close()
        #expect(try pair.client.readAll(pair.server.takeOutput()) == (Array("answer".utf8), true))
    }

    @Test(arguments: mixed) func `each layer says why it refused the other's records`(layers: Layers) throws {
        for isFromClient in [true, false] {
            let pair = try pair(layers)
            try pair.establish()
            let (from, to) = isFromClient ? (pair.client, pair.server) : (pair.server, pair.client)
            try from.write(Array("hello".utf8))
            var sealed = from.takeOutput()
            sealed[sealed.count - 1] ^= 1
            #expect(throws: TLSError.self) { _ = try to.readAll(sealed) }
            #expect(throws: TLSError.alert("bad record mac")) { _ = try from.readAll(to.takeOutput()) }
        }
    }

    @Test func `tickets of a server are passed over by a client with records of its own`() throws {
        let pair = try pair(Layers(client: .own, server: .libssl), tickets: 5)
        try pair.establish()
        try pair.server.write(Array("behind the tickets".utf8))
        #expect(
            try pair.client.readAll(pair.server.takeOutput()).plain == Array("behind the tickets".utf8))
    }

    @Test func `our records do not begin where libssl has sealed already`() throws {
        let pair = try pair(Layers(client: .libssl, server: .own), tickets: 1)
        #expect(
            pair.handshake().server?.error == .library("libssl did not leave the records to us"))
    }

    /// The client's last flight and its first data come in one piece, cut anywhere.
    @Test(arguments: RecordLayer.allCases)
    func `data behind the handshake is left for the session's own reading`(layer: RecordLayer) throws {
        for cut in stride(from: 0, to: 3_000, by: 7) {
            let pair = try pair(Layers(client: layer, server: .own))
            var consumed = 0
            let drive = { (session: TLSSession, bytes: [UInt8]) throws -> TLSSession.Handshake in
                try unsafe lend(bytes) { bytes throws(TLSError) in
                    try unsafe session.handshake(bytes, &consumed)
                }
            }
            _ = try drive(pair.client, [])
            _ = try drive(pair.server, pair.client.takeOutput())
            #expect(try drive(pair.client, pair.server.takeOutput()) == .done)
            try pair.client.write(Array("early".utf8))
            pair.client.close()
            let flight = pair.client.takeOutput()
            guard cut < flight.count else { return }
            let pieces = [Array(flight[..<cut]), Array(flight[cut...])]
            var plain: [UInt8] = []
            var isDone = false
            for piece in pieces {
                var rest = piece
                if !isDone {
                    isDone = try drive(pair.server, piece) == .done
                    rest.removeFirst(consumed)
                }
                if isDone { plain += try pair.server.readAll(rest).plain }
            }
            #expect(plain == Array("early".utf8))
        }
    }

    @Test func `a session that was ended by a breach stays ended`() throws {
        let pair = try pair(Layers(client: .own, server: .own))
        try pair.establish()
        try pair.client.write([1])
        let sealed = pair.client.takeOutput()
        var forged = sealed
        forged[10] ^= 1
        var breach: TLSError?
        do { _ = try pair.server.readAll(forged) } catch { breach = error }
        let error = try #require(breach)
        // Not even the true record helps now.
        #expect(throws: error) { _ = try pair.server.readAll(sealed) }
        #expect(throws: error) { try pair.server.write([1]) }
        pair.server.close()
        #expect(throws: TLSError.alert("bad record mac")) {
            _ = try pair.client.readAll(pair.server.takeOutput())
        }
    }

    @Test func `a session that fails forgets its keys at once`() throws {
        let pair = try pair(Layers(client: .own, server: .own))
        try pair.establish()
        try pair.client.write([UInt8](repeating: 1, count: 20_000))
        var sealed = pair.client.takeOutput()
        sealed[sealed.count - 1] ^= 1
        #expect(pair.server.records != nil)
        #expect(throws: TLSError.self) { _ = try pair.server.readAll(sealed) }
        #expect(pair.server.records == nil)
        #expect(throws: TLSError.truncated) { try pair.client.endOfInput() }
        #expect(pair.client.records == nil)
        // Asking on a session without keys does nothing.
        pair.client.renewKeys()
        pair.client.close()
        #expect(pair.client.output.isEmpty)
    }

    @Test(.bothRecordLayers) func `no alert follows close_notify`() throws {
        let pair = try pair(Layers(client: TestedRecords.layer, server: TestedRecords.layer))
        try pair.establish()
        try pair.client.write([1])
        var sealed = pair.client.takeOutput()
        sealed[sealed.count - 1] ^= 1
        pair.server.close()
        _ = pair.server.takeOutput()
        #expect(throws: TLSError.self) { _ = try pair.server.readAll(sealed) }
        #expect(pair.server.output.isEmpty)
    }

    @Test(.bothRecordLayers) func `nothing is written behind close_notify`() throws {
        let pair = try pair(Layers(client: TestedRecords.layer, server: TestedRecords.layer))
        try pair.establish()
        pair.client.close()
        #expect(throws: TLSError.self) { try pair.client.write([1]) }
    }

    @Test(.bothRecordLayers) func `a peer that asks for new keys gets them, before our next data`() throws {
        let pair = try pair(Layers(client: TestedRecords.layer, server: TestedRecords.layer))
        try pair.establish()
        pair.client.renewKeys()
        try pair.client.write([1])
        _ = try pair.server.readAll(pair.client.takeOutput())
        #expect(pair.server.output.isEmpty)
        try pair.server.write([2])
        let sealed = pair.server.takeOutput()
        #expect(sealed.count == 1 + 5 + 2 * RecordFormat.overhead)
        #expect(try pair.client.readAll(sealed).plain == [2])
    }
}

struct RecordBoundaryTests {
    @Test func `records are told apart, however they come`() {
        var random = SeededGenerator(seed: 41)
        let lengths = [0, 1, 4, 5, 300, 70, 0, 16_640, 2]
        let stream = lengths.flatMap {
            [22, 3, 3, UInt8($0 >> 8), UInt8($0 & 0xff)] + [UInt8](repeating: 0xff, count: $0)
        }
        var ends: Set<Int> = [0]
        for length in lengths { ends.insert((ends.max() ?? 0) + 5 + length) }
        for largest in [1, 2, 10, 20_000] {
            var boundary = RecordBoundary()
            var offset = 0
            while offset < stream.count {
                let piece = Array(stream[offset...].prefix(Int.random(in: 1...largest, using: &random)))
                let count = unsafe piece.withUnsafeBytes { unsafe boundary.pass($0) }
                #expect(count > 0)
                // None lies between the beginning and the end of what was passed.
                #expect(ends.allSatisfy { $0 <= offset || $0 >= offset + count })
                offset += count
            }
        }
    }
}
