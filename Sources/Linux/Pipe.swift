import CLinux
import Glibc

/// A pipe: what is written to one end is read from the other. Non-blocking, close-on-exec.
@frozen
public struct Pipe: ~Copyable, Sendable {
    public let readEnd: PipeEnd
    public let writeEnd: PipeEnd

    public init() throws(SystemCallError) {
        var numbers: (Int32, Int32) = (-1, -1)
        try systemCall("pipe2", on: "pipe") {
            unsafe withUnsafeMutablePointer(to: &numbers) {
                unsafe $0.withMemoryRebound(to: Int32.self, capacity: 2) {
                    unsafe clinux_pipe2($0, Int32(O_CLOEXEC | O_NONBLOCK))
                }
            }
        }
        readEnd = PipeEnd(owning: Descriptor(owning: numbers.0))
        writeEnd = PipeEnd(owning: Descriptor(owning: numbers.1))
    }

    /// Asks for room for so many bytes (F_SETPIPE_SZ); the kernel may refuse, the pipe then stays as it is.
    ///
    /// - Returns: the room that the pipe has.
    @discardableResult
    public func setCapacity(_ byteCount: Int32) -> Int {
        _ = clinux_fcntl(writeEnd.descriptor.number, setPipeSize, byteCount)
        return max(0, Int(clinux_fcntl(writeEnd.descriptor.number, getPipeSize, 0)))
    }
}

/// One end of a pipe.
public struct PipeEnd: ~Copyable, Sendable, EventSource {
    let descriptor: Descriptor

    init(owning descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }

    /// Reads what waits in the pipe; `.end` once every writer is gone.
    public func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
        IOResult.from { unsafe Glibc.read(descriptor.number, buffer.baseAddress, buffer.count) }
    }

    /// Writes what the pipe takes; `.failed(EPIPE)` without readers (the process ignores SIGPIPE, see `ignoreSIGPIPE`).
    public func write(_ bytes: UnsafeRawBufferPointer) -> IOResult {
        IOResult.from { unsafe Glibc.write(descriptor.number, bytes.baseAddress, bytes.count) }
    }
}

/// Moves at most `byteCount` bytes from a socket into a pipe without copying them (splice(2)).
///
/// `.wouldBlock` when the socket has nothing or the pipe is full; the caller knows which from what it put in.
public func splice(from socket: borrowing Socket, to pipe: borrowing PipeEnd, _ byteCount: Int) -> IOResult {
    let (source, target) = (socket.descriptor.number, pipe.descriptor.number)
    return IOResult.from { clinux_splice(source, target, byteCount, CLINUX_SPLICE_FLAGS) }
}

/// Moves at most `byteCount` bytes from a pipe into a socket without copying them (splice(2)).
public func splice(from pipe: borrowing PipeEnd, to socket: borrowing Socket, _ byteCount: Int) -> IOResult {
    let (source, target) = (pipe.descriptor.number, socket.descriptor.number)
    return IOResult.from { clinux_splice(source, target, byteCount, CLINUX_SPLICE_FLAGS) }
}

/// Makes writes to a broken pipe fail with EPIPE in place of ending the process; each program calls it first.
public func ignoreSIGPIPE() {
    signal(SIGPIPE, SIG_IGN)
}

private let setPipeSize: Int32 = 1031
private let getPipeSize: Int32 = 1032
