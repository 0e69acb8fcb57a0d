import Testing

@testable import GRPC

struct MessageTests {
    private func read(
        _ bytes: [UInt8], piece: Int, with reader: inout MessageReader
    ) throws(GRPCStatus) -> [[UInt8]] {
        var messages: [[UInt8]] = []
        var rest = bytes[...]
        var failure: GRPCStatus?
        while !rest.isEmpty, failure == nil {
            let chunk = Array(rest.prefix(piece))
            rest = rest.dropFirst(piece)
            unsafe chunk.withUnsafeBytes { input in
                var offset = 0
                do throws(GRPCStatus) {
                    while let message = try unsafe reader.next(input, &offset) { messages.append(message) }
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
        return messages
    }

    private func take(_ queue: inout MessageQueue, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: count)
        let taken = unsafe bytes.withUnsafeMutableBytes { unsafe queue.take(into: $0) }
        return Array(bytes[..<taken])
    }

    @Test(arguments: [1, 2, 5, 6, 100, 100_000], [1, 3, 7, 4_096])
    func `messages come out as they went in, however they are cut`(piece: Int, chunk: Int) throws {
        let messages: [[UInt8]] = [[], [1], Array(repeating: 7, count: 10_000), [], [2, 3]]
        var queue = MessageQueue()
        for message in messages { queue.append(message) }
        #expect(queue.byteCount == 25 + 10_003)
        var bytes: [UInt8] = []
        while !queue.isEmpty { bytes += take(&queue, chunk) }
        var reader = MessageReader(limit: 10_000)
        #expect(try read(bytes, piece: piece, with: &reader) == messages)
        #expect(reader.isBetweenMessages)
    }

    @Test func `a queue that never empties forgets what it has sent`() {
        var queue = MessageQueue()
        queue.append([0])
        for index in 0..<10_000 {
            queue.append([UInt8(truncatingIfNeeded: index)])
            #expect(take(&queue, 6).count == 6)
        }
        #expect(queue.byteCount == 6)
    }

    @Test func `a message over the limit is refused by its length alone`() {
        var reader = MessageReader(limit: 9)
        #expect(throws: GRPCStatus(.resourceExhausted, "message of 10 bytes, the limit is 9")) {
            try read([0, 0, 0, 0, 10], piece: 5, with: &reader)
        }
    }

    @Test(arguments: [1, 2, 255] as [UInt8])
    func `compressed messages and unknown flags are refused`(flags: UInt8) {
        var reader = MessageReader(limit: 100)
        #expect(throws: GRPCStatus.self) { try read([flags, 0, 0, 0, 1, 0], piece: 6, with: &reader) }
    }

    @Test func `an announced length takes no memory before its bytes come`() throws {
        var reader = MessageReader(limit: 1 << 31)
        #expect(try read([0, 0x7f, 0xff, 0xff, 0xff, 1], piece: 6, with: &reader).isEmpty)
        #expect(!reader.isBetweenMessages)
    }
}
