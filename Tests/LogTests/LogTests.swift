import Linux
import Testing

@testable import Log

struct LogFilterTests {
    @Test(arguments: [
        ("", "info"), ("debug", "debug"), ("WARNING", "warn"), ("info,tunnel=debug", "info,tunnel=debug"),
        ("tls=trace,error", "error,tls=trace"),
    ])
    func `a filter is read from its text`(text: String, canonical: String) throws {
        #expect(try #require(LogFilter(text)).description == canonical)
    }

    @Test(arguments: ["loud", "=debug", "tunnel=", "tunnel=loud", "info,,x=y"])
    func `what is no filter is refused`(text: String) {
        #expect(LogFilter(text) == nil)
    }

    @Test func `the longest rule of a scope holds`() {
        let filter = LogFilter(.warn, scopes: ["tunnel": .info, "tunnel.pool": .trace])
        #expect(filter.level(for: "tunnel.pool.idle") == .trace)
        #expect(filter.level(for: "tunnel.server") == .info)
        #expect(filter.level(for: "tunnels") == .warn)
    }
}

struct LogFormatTests {
    private func line(_ fields: KeyValuePairs<String, LogValue>, message: String = "it happened") -> LogLine {
        LogLine(
            time: WallClock(seconds: 0), level: .warn, scope: "test", message: message, fields: fields,
            suppressed: 0)
    }

    @Test func `text is separated by tabs and quotes what needs it`() {
        let bytes = line(["peer": "10.0.0.1:80", "why": "no route", "empty": "", "count": 3]).encoded(.text)
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == "1970-01-01T00:00:00.000000Z\twarn\ttest\tit happened\tpeer=10.0.0.1:80 why=\"no route\" empty=\"\" count=3\n"
        )
    }

    @Test func `JSON keeps numbers and booleans bare`() {
        let bytes = line(["count": 3, "on": true, "name": "a\"b"]).encoded(.json)
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == #"{"level":"warn","time":"1970-01-01T00:00:00.000000Z","scope":"test","message":"it happened","fields":{"count":3,"on":true,"name":"a\"b"}}"#
                + "\n")
    }

    @Test(arguments: LogFormat.allCases)
    func `a peer's line feed or escape sequence cannot forge a line`(format: LogFormat) {
        let bytes = line(["header": "x\nforged\u{1b}[31m"], message: "a\nb").encoded(format)
        #expect(bytes.filter { $0 == UInt8(ascii: "\n") }.count == 1)
        #expect(!bytes.contains(0x1b))
    }
}

struct LoggerTests {
    /// Runs `body` with a system that writes to a file, and gives what was written.
    private func captured(_ filter: LogFilter, _ body: (LogSystem) -> Void) throws -> [String] {
        let path = "/tmp/warren-log-" + randomBytes(8).map { String($0, radix: 16) }.joined()
        defer { try? removeFile(path) }
        let system = LogSystem()
        try system.start(filter, .text, to: try OutputFile(appendingTo: path))
        body(system)
        system.flush()
        return String(decoding: try readFile(path), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    @Test func `lines under the level are neither written nor built`() throws {
        let lines = try captured(LogFilter(.info)) { system in
            let logger = Logger(scope: "test", system: system)
            logger.debug("\(Issue.record("built") as Any)")
            logger.info("kept", ["key": 1])
        }
        #expect(lines.count == 1)
        #expect(lines.first?.hasSuffix("\tinfo\ttest\tkept\tkey=1") == true)
    }

    @Test func `a changed filter reaches loggers that exist`() throws {
        let lines = try captured(LogFilter(.error)) { system in
            let logger = Logger(scope: "test", system: system)
            logger.trace("before")
            system.filter = LogFilter(.error, scopes: ["test": .trace])
            logger.trace("after")
        }
        #expect(lines.count == 1)
    }

    @Test func `a limited place writes once and counts the rest`() throws {
        let lines = try captured(LogFilter(.info)) { system in
            let logger = Logger(scope: "test", system: system)
            for number in 0..<100 { logger.limited(.seconds(3_600), .warn, "flood", ["number": number]) }
            logger.limited(.seconds(3_600), .warn, "another place")
        }
        #expect(lines.count == 2)
    }

    @Test func `a place that was held back says how often`() {
        let system = LogSystem()
        let site = CallSite(file: 1, line: 2, scope: "test")
        let start = MonotonicTime(nanoseconds: 1)
        #expect(system.admit(site, every: .seconds(1), now: start) == 0)
        for _ in 0..<5 { #expect(system.admit(site, every: .seconds(1), now: start) == nil) }
        #expect(system.admit(site, every: .seconds(1), now: start + .seconds(1)) == 5)
    }

    @Test func `a writer drops and counts what does not fit, and keeps whole lines`() throws {
        let path = "/tmp/warren-log-" + randomBytes(8).map { String($0, radix: 16) }.joined()
        defer { try? removeFile(path) }
        let writer = try LineWriter(try OutputFile(appendingTo: path), limit: 10)
        writer.write(Array("far too long for it\n".utf8))
        writer.write(Array("short\n".utf8))
        writer.stop()
        writer.write(Array("late\n".utf8))
        #expect(writer.droppedLines == 2)
        #expect(try readFile(path) == Array("short\n".utf8))
    }
}
