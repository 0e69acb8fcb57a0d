import TLSTestSupport
import TestSupport
import Testing

@testable import TLS

@Suite(.bothRecordLayers) struct RecordTests {
    static let contexts = Result {
        let realm = try Realm()
        return (
            realm, try realm.bundle("alice"), try realm.bundle("bob")
        )
    }

    private func pair(_ change: (inout TLSConfiguration) -> Void = { _ in }) throws -> Pair {
        let (realm, alice, bob) = try Self.contexts.get()
        var client = realm.client(alice)
        var server = realm.server(bob)
        change(&client)
        change(&server)
        let pair = try Pair(client: client, server: server, expecting: [realm.uri("bob")])
        try pair.establish()
        return pair
    }

    @Test func `carries bytes of any size both ways`() throws {
        let pair = try pair()
        var random = SeededGenerator(seed: 1)
        for count in [0, 1, 16_383, 16_384, 16_385, 102_400, 1 << 20] {
            let bytes = random.bytes(count)
            try pair.client.write(bytes)
            #expect(try pair.server.readAll(pair.client.takeOutput()) == (bytes, false))
            try pair.server.write(bytes)
            #expect(try pair.client.readAll(pair.server.takeOutput()) == (bytes, false))
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `takes records cut anywhere into areas of any size`(seed: UInt64) throws {
        let pair = try pair()
        var random = SeededGenerator(seed: seed)
        for _ in 0..<60 {
            let bytes = random.bytes(Int.random(in: 1...40_000, using: &random))
            try pair.client.write(bytes)
            var sealed = pair.client.takeOutput()[...]
            var plain: [UInt8] = []
            while !sealed.isEmpty {
                let part = Array(sealed.prefix(Int.random(in: 1...5_000, using: &random)))
                sealed = sealed.dropFirst(part.count)
                plain += try pair.server.readAll(part, area: Int.random(in: 1...20_000, using: &random)).plain
            }
            #expect(plain == bytes)
        }
    }

    @Test func `takes a short exchange cut at every byte`() throws {
        let pair = try pair()
        try pair.client.write(Array("hello".utf8))
        pair.client.close()
        let sealed = pair.client.takeOutput()
        var plain: [UInt8] = []
        var isClosed = false
        for byte in sealed {
            let read = try pair.server.readAll([byte])
            plain += read.plain
            isClosed = isClosed || read.closed
        }
        #expect(plain == Array("hello".utf8) && isClosed)
    }

    @Test func `leaves what the plaintext area cannot hold for the next call`() throws {
        let pair = try pair()
        try pair.client.write([UInt8](repeating: 7, count: 50_000))
        let sealed = pair.client.takeOutput()
        var area = [UInt8](repeating: 0, count: 20_000)
        var consumed = 0
        let first = try pair.server.read(sealed, &consumed, into: &area)
        // libssl fills the area; ours does not cut the record that does not fit.
        guard case .bytes(let count) = first, count == 20_000 || count == 16_384 else {
            Issue.record("\(first)")
            return
        }
        #expect(consumed < sealed.count)
        #expect(try pair.server.readAll(Array(sealed[consumed...])).plain.count == 50_000 - count)
    }

    @Test func `close_notify ends one direction, and the other goes on`() throws {
        let pair = try pair()
        try pair.client.write(Array("last".utf8))
        pair.client.close()
        let read = try pair.server.readAll(pair.client.takeOutput())
        #expect(read == (Array("last".utf8), true))
        try pair.server.endOfInput()
        try pair.server.write(Array("answer".utf8))
        #expect(try pair.client.readAll(pair.server.takeOutput()).plain == Array("answer".utf8))
    }

    @Test func `a stream that ends without close_notify is seen as truncated`() throws {
        let pair = try pair()
        try pair.client.write(Array("half".utf8))
        #expect(try pair.server.readAll(pair.client.takeOutput()).plain == Array("half".utf8))
        #expect(throws: TLSError.truncated) { try pair.server.endOfInput() }
        #expect(throws: TLSError.truncated) { try pair.server.write([1]) }
    }

    @Test func `what came before a breach is delivered, then the breach`() throws {
        let pair = try pair()
        try pair.client.write(Array("good".utf8))
        let sealed = pair.client.takeOutput() + [UInt8](repeating: 0x17, count: 1 << 10)
        var area = [UInt8](repeating: 0, count: 100)
        var consumed = 0
        #expect(try pair.server.read(sealed, &consumed, into: &area) == .bytes(4))
        #expect(throws: TLSError.self) { try pair.server.read([], &consumed, into: &area) }
    }

    @Test func `a changed byte anywhere in a record ends the session`() throws {
        for index in [0, 3, 5, 20, 26] {
            let pair = try pair()
            try pair.client.write(Array("hello".utf8))
            var sealed = pair.client.takeOutput()
            sealed[index] ^= 1
            // A longer record is still incomplete; a kibibyte of what follows completes it.
            #expect(throws: TLSError.self) {
                _ = try pair.server.readAll(sealed + [UInt8](repeating: 0x17, count: 1 << 10))
            }
        }
    }

    @Test func `keys are renewed in both directions while data flows`() throws {
        let pair = try pair()
        var random = SeededGenerator(seed: 5)
        for _ in 0..<100 {
            pair.client.renewKeys()
            let bytes = random.bytes(3_000)
            try pair.client.write(bytes)
            #expect(try pair.server.readAll(pair.client.takeOutput()).plain == bytes)
            try pair.server.write(bytes)
            #expect(try pair.client.readAll(pair.server.takeOutput()).plain == bytes)
        }
    }

    @Test func `a key is renewed before it has sealed too many records`() throws {
        let plain = try pair()
        let renewing = try pair { $0.recordsPerKey = 4 }
        let bytes = [UInt8](repeating: 1, count: 16_384 * 4)
        var sizes: [Int] = []
        for pair in [plain, renewing] {
            for _ in 0..<10 {
                try pair.client.write(bytes)
                let sealed = pair.client.takeOutput()
                sizes.append(sealed.count)
                #expect(try pair.server.readAll(sealed).plain == bytes)
            }
        }
        #expect(sizes[10] == sizes[0])
        #expect(sizes[11...].allSatisfy { $0 > sizes[0] })
    }

    @Test func `a peer that renews keys for nothing is ended`() throws {
        let pair = try pair()
        #expect(throws: TLSError.self) {
            for _ in 0...TLSSession.emptyRecordBudget {
                pair.client.renewKeys()
                try pair.client.write([1])
                _ = try pair.server.readAll(pair.client.takeOutput())
            }
        }
    }

    @Test func `output is bounded, and its memory goes back when it has left`() throws {
        let pair = try pair { $0.outputLimit = 1 << 20 }
        let bytes = [UInt8](repeating: 1, count: 300_000)
        for _ in 0..<3 { try pair.client.write(bytes) }
        #expect(throws: TLSError.outputLimit(byteCount: 1 << 20)) { try pair.client.write(bytes) }
        let memory = pair.client.context.workspace.memory
        let before = memory.keptByteCount
        _ = pair.client.takeOutput()
        #expect(memory.keptByteCount > before)
        #expect(pair.client.output.isEmpty)
    }

    @Test func `garbage instead of a handshake ends it with a reason`() throws {
        var random = SeededGenerator(seed: 9)
        let (realm, _, bob) = try Self.contexts.get()
        let context = try TLSContext(realm.server(bob))
        for _ in 0..<200 {
            let session = try TLSSession(context)
            let garbage = random.bytes(Int.random(in: 5...400, using: &random))
            var consumed = 0
            #expect(throws: TLSError.self) {
                let result = try unsafe lend(garbage) { bytes throws(TLSError) in
                    try unsafe session.handshake(bytes, &consumed)
                }
                // A header may promise more than came; then nothing has been decided yet.
                if result == .needsInput { throw TLSError.truncated }
            }
        }
    }

    @Test func `every mutation of a client's first flight is refused or survived`() throws {
        let (realm, alice, bob) = try Self.contexts.get()
        let server = try TLSContext(realm.server(bob))
        let client = try TLSContext(realm.client(alice))
        var random = SeededGenerator(seed: 11)
        for _ in 0..<300 {
            let session = try TLSSession(client, expecting: [realm.uri("bob")])
            var consumed = 0
            _ = try unsafe session.handshake(UnsafeRawBufferPointer(start: nil, count: 0), &consumed)
            var flight = session.takeOutput()
            flight[Int.random(in: 0..<flight.count, using: &random)] = UInt8.random(
                in: 0...255, using: &random)
            let accepting = try TLSSession(server)
            let result = Result { () throws(TLSError) in
                try unsafe lend(flight) { bytes throws(TLSError) in
                    try unsafe accepting.handshake(bytes, &consumed)
                }
            }
            #expect(result != .success(.done))
        }
    }
}
