import Testing

@testable import EventLoop

struct PipePoolTests {
    @Test func `no more are lent than the limit, and one that comes back is lent again`() throws {
        let pool = PipePool(limit: 2)
        let first = try #require(pool.take())
        let second = try #require(pool.take())
        #expect(first !== second && pool.take() == nil && pool.refusals == 1)
        pool.give(first)
        #expect(pool.lentCount == 1 && pool.idleCount == 1)
        #expect(pool.take() === first)
        #expect(pool.lentCount == 2 && pool.idleCount == 0)
    }

    @Test func `what nobody needed between two trims is closed`() throws {
        let pool = PipePool(limit: 4)
        let lent = try (0..<3).map { _ in try #require(pool.take()) }
        for pipe in lent { pool.give(pipe) }
        pool.trim()
        #expect(pool.idleCount == 3, "they were all lent since the last")
        let again = try #require(pool.take())
        pool.give(again)
        pool.trim()
        #expect(pool.idleCount == 1, "two lay idle all the while")
        pool.trim()
        #expect(pool.idleCount == 0)
    }
}
