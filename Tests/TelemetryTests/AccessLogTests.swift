import Linux
import Telemetry
import Testing

struct AccessLogTests {
    private let path = "/tmp/warren-access-\(randomBytes(8).map { String($0, radix: 16) }.joined())"

    @Test func `goes on in a new file after a rotation`() throws {
        let log = try AccessLog(.file(path), .text)
        log.append(Array("one\n".utf8))
        while try readFile(path).isEmpty { yieldProcessor() }
        try removeFile(path)
        try log.reopen()
        log.append(Array("two\n".utf8))
        log.close()
        #expect(try readFile(path) == Array("two\n".utf8))
        #expect(log.droppedLines == 0)
        try removeFile(path)
    }

    @Test func `says at once that a file cannot be opened`() {
        #expect(throws: SystemCallError.self) { try AccessLog(.file("/nonexistent/directory/log"), .text) }
    }
}

private func yieldProcessor() {
    _ = try? readFile("/proc/self/stat")
}
