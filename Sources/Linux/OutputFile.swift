import CLinux
import Glibc

/// A file, pipe or terminal that lines are appended to by blocking writes: logs and reports, on threads without a loop.
public struct OutputFile: ~Copyable, Sendable {
    private let descriptor: Descriptor
    private let name: String

    /// Opens a file for appending, made with `mode` if missing.
    public init(appendingTo path: String, mode: UInt32 = 0o640) throws(SystemCallError) {
        let number = try systemCall("open", on: path) {
            unsafe clinux_open(path, O_WRONLY | O_CREAT | O_APPEND, mode)
        }
        descriptor = Descriptor(owning: number)
        name = path
    }

    private init(duplicating number: Int32, _ name: String) throws(SystemCallError) {
        descriptor = Descriptor(
            owning: try systemCall("fcntl", on: name) { clinux_fcntl(number, duplicateCloseOnExec, 0) })
        self.name = name
    }

    public static func standardOutput() throws(SystemCallError) -> OutputFile {
        try OutputFile(duplicating: 1, "standard output")
    }

    public static func standardError() throws(SystemCallError) -> OutputFile {
        try OutputFile(duplicating: 2, "standard error")
    }

    /// Writes everything, waiting for a slow reader.
    public func write(_ bytes: [UInt8]) throws(SystemCallError) {
        try writeAll(descriptor.number, bytes, name)
    }

    /// Writes as much as the other end takes at once: a terminal that was stopped or a pipe that nobody reads holds nobody up.
    ///
    /// - Returns: how many bytes were written.
    public func writeWhatFits(_ bytes: [UInt8]) throws(SystemCallError) -> Int {
        var written = 0
        while written < bytes.count {
            var state = pollfd(fd: descriptor.number, events: Int16(POLLOUT), revents: 0)
            guard unsafe poll(&state, 1, 0) == 1 else { break }
            // A pipe with room has it for so many bytes at least (pipe(7), PIPE_BUF).
            let end = min(bytes.count, written + 4_096)
            try writeAll(descriptor.number, Array(bytes[written..<end]), name)
            written = end
        }
        return written
    }

    public func write(_ text: String) throws(SystemCallError) {
        try write(Array(text.utf8))
    }

    /// A terminal is at the other end.
    public var isTerminal: Bool { isatty(descriptor.number) == 1 }
}

/// An environment variable; nil when it is not set.
public func environmentVariable(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
}
