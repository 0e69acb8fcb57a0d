import Linux
import Log

/// Where the access log goes: standard output, or a file that may be rotated.
public final class AccessLog: Sendable {
    public enum Destination: Hashable, Sendable {
        case standardOutput
        case file(String)
    }

    private let destination: Destination
    private let writer: LineWriter
    public let format: AccessFormat

    /// Bytes of lines that may wait for a slow reader; about ten thousand lines.
    private static let limit = 4 << 20

    /// - Throws: when the file cannot be opened.
    public init(_ destination: Destination, _ format: AccessFormat) throws(SystemCallError) {
        self.destination = destination
        self.format = format
        writer = try LineWriter(Self.open(destination), limit: Self.limit, threadName: "access-log")
    }

    /// Takes a line, line feed included, without waiting. Dropped and counted when too many wait: a log that blocks
    /// would let whoever reads it stop the traffic.
    public func append(_ line: [UInt8]) {
        writer.write(line)
    }

    public var droppedLines: Int { writer.droppedLines }

    /// Goes on in a new file: what had the name may have been rotated away (SIGHUP).
    ///
    /// - Throws: when it cannot be opened; lines then go where they went before.
    public func reopen() throws(SystemCallError) {
        writer.replaceOutput(try Self.open(destination))
    }

    /// Writes what waits and ends the thread.
    public func close() {
        writer.stop()
    }

    private static func open(_ destination: Destination) throws(SystemCallError) -> OutputFile {
        switch destination {
        case .standardOutput: try OutputFile.standardOutput()
        case .file(let path): try OutputFile(appendingTo: path)
        }
    }
}
