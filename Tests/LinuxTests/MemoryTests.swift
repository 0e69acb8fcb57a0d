import Testing

@testable import Linux

struct MemoryTests {
    /// Pages of files that are in this process's memory.
    private func residentFileKiB() throws -> Int {
        let status = String(decoding: try readFile("/proc/self/status"), as: UTF8.self)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssFile:") })
        return try #require(
            line.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Int($0) }.first)
    }

    @Test func `text that is given up leaves memory, and runs when it is needed again`() throws {
        let before = try residentFileKiB()
        releaseProgramText()
        #expect(try residentFileKiB() < before)
        #expect(try readFile("/proc/self/maps").count > 0)
    }

    @Test func `of what nobody needs any more the whole pages leave memory`() {
        let area = UnsafeMutableRawBufferPointer.allocate(
            byteCount: 3 * pageByteCount, alignment: pageByteCount)
        defer { unsafe area.deallocate() }
        unsafe area.initializeMemory(as: UInt8.self, repeating: 7)
        unsafe releaseContents(UnsafeMutableRawBufferPointer(rebasing: area[100..<area.count - 100]))
        let left = area.indices.filter { unsafe area[$0] == 7 }
        #expect(left == [Int](0..<pageByteCount) + [Int](2 * pageByteCount..<3 * pageByteCount))
        unsafe area[pageByteCount] = 8
        #expect(unsafe area[pageByteCount] == 8)
        unsafe releaseContents(UnsafeMutableRawBufferPointer(start: nil, count: 0))
        unsafe releaseContents(UnsafeMutableRawBufferPointer(rebasing: area[1..<pageByteCount]))
        #expect(unsafe area[1] == 7)
    }
}
