import Testing

@testable import NodeAgent

struct WorkerCountTests {
    private func count(
        cores: Int, _ wish: String? = nil, limit: String? = nil, request: String? = nil
    ) throws -> Int {
        var count = WorkerCount(cores: cores)
        if let wish { count.wish = try #require(WorkerCount.Wish(wish)) }
        count.resourceLimit = limit.flatMap(WorkerCount.processors)
        count.resourceRequest = request.flatMap(WorkerCount.processors)
        return count.count
    }

    @Test func `is ztunnel's`() throws {
        #expect(try count(cores: 2) == 2)
        #expect(try count(cores: 16) == 4)
        #expect(try count(cores: 17) == 5)
        #expect(try count(cores: 16, "3") == 3)
        #expect(try count(cores: 16, "0") == 16)
        #expect(try count(cores: 16, "30%") == 5)
        #expect(try count(cores: 16, request: "6") == 6)
        #expect(try count(cores: 16, limit: "1500m", request: "200m") == 2)
        #expect(try count(cores: 16, "0", limit: "8") == 8)
    }

    @Test(arguments: ["", "-1", "x", "0%", "101%", "1000", "%"])
    func `refuses what is no count`(text: String) {
        #expect(WorkerCount.Wish(text) == nil)
    }

    @Test func `reads quantities`() {
        #expect(["500m", "2", "1.5", "2.0"].map(WorkerCount.processors) == [1, 2, 2, 2])
        #expect(["", "m", "-1", "1.", "1.x", "2Gi"].compactMap(WorkerCount.processors).isEmpty)
    }
}
