import EventLoop
import Testing

@testable import Transport

struct GatherBufferTests {
    private static let small = BufferPool.Size.small.rawValue
    private static let huge = BufferPool.Size.huge.rawValue
    private static let giant = BufferPool.Size.giant.rawValue

    /// Gathers as much as a turn brings and sends it, whenever nothing more fits.
    ///
    /// - Returns: the most bytes that were sent at once.
    private func turn(_ gather: inout GatherBuffer, _ byteCount: Int, of pieceSize: Int = 65_536) -> Int {
        var (left, most) = (byteCount, 0)
        while left > 0 {
            gather.makeRoom(min(left, pieceSize))
            let room = unsafe gather.room.count
            let count = min(left, pieceSize, room)
            gather.append(count)
            left -= count
            if left == 0 || count < pieceSize {
                most = max(most, gather.count)
                gather.removeFirst(gather.count)
            }
        }
        return most
    }

    @Test func `a channel that fills its buffer gets a larger one, until it needs little again`() {
        let pool = BufferPool(budget: 64 << 20)
        var gather = GatherBuffer(pool)
        #expect(turn(&gather, 400_000) == 400_000)
        // Full within the turn: the rest of it finds the largest buffer.
        #expect(turn(&gather, 1 << 20) > Self.huge - 2_048)
        #expect(turn(&gather, 2_000_000) == 2_000_000)
        #expect(turn(&gather, 400_000) == 400_000)
        #expect(turn(&gather, 100_000) == 100_000)
        gather.makeRoom(100_000)
        #expect(pool.borrowedBytes == Self.huge)
        gather.giveBack()
        #expect(pool.borrowedBytes == 0)
    }

    @Test func `small messages between leave a channel its large buffer`() {
        let pool = BufferPool(budget: 64 << 20)
        var gather = GatherBuffer(pool)
        _ = turn(&gather, 2 << 20)
        #expect(turn(&gather, 100, of: 100) == 100)
        gather.makeRoom(100)
        #expect(pool.borrowedBytes == Self.small)
        gather.giveBack()
        #expect(turn(&gather, 2_000_000) == 2_000_000)
    }

    @Test func `where the loop's budget is used, channels have to do with less`() {
        let pool = BufferPool(budget: 16 << 20)
        var gather = GatherBuffer(pool)
        _ = turn(&gather, 2 << 20)
        pool.charge(5 << 20)
        #expect(!pool.isAmple)
        #expect(turn(&gather, 2 << 20) <= Self.huge)
        pool.charge(-5 << 20)
        #expect(turn(&gather, 2_000_000) == 2_000_000)
        pool.charge(16 << 20)
        gather.makeRoom(100_000)
        #expect(unsafe gather.room.isEmpty)
        gather.makeRoom(100, isUrgent: true)
        #expect(unsafe gather.room.count == Self.small)
        gather.giveBack()
        pool.charge(-16 << 20)
        #expect(pool.borrowedBytes == 0)
    }

    /// 22 bytes for each record of 16 KiB, and what an alert takes.
    @Test(arguments: [huge, giant]) func `what was gathered fits as records into a block of its size`(
        _ size: Int
    ) {
        let pool = BufferPool(budget: 64 << 20)
        var gather = GatherBuffer(pool)
        if size == Self.giant { _ = turn(&gather, 2 << 20) }
        gather.makeRoom(100_000)
        let most = unsafe gather.room.count
        #expect(most + (most / 16_384 + 1) * 22 + 64 <= size)
        #expect(most > size - 8_192)
        gather.giveBack()
    }
}
