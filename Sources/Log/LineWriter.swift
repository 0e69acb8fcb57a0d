import Linux
import Synchronization

/// Writes lines to a file or stream from a thread of its own, so that a slow disk or terminal never holds a loop up.
///
/// Lines wait in one buffer of bounded size; what does not fit is dropped and counted. The access log uses one as well.
public final class LineWriter: Sendable {
    private struct Waiting {
        var bytes: [UInt8] = []
        var isStopped = false
        /// The thread writes, or will look here again by itself: it need not be woken.
        var isAwake = false
        /// Callers that wait for everything to be written.
        var flushers = 0
    }

    private let waiting = Mutex(Waiting())
    private let output: Mutex<OutputFile>
    private let wakeUp: EventDescriptor
    private let written: EventDescriptor
    private let limit: Int
    private let dropped = Atomic<Int>(0)
    private let thread = Mutex<Thread?>(nil)

    /// - Parameter limit: bytes that may wait.
    public init(
        _ output: consuming OutputFile, limit: Int = 1 << 20, threadName: String = "log"
    ) throws(SystemCallError) {
        self.output = Mutex(output)
        self.limit = limit
        wakeUp = try EventDescriptor()
        written = try EventDescriptor()
        let started = try Thread.start(name: threadName) { [self] in run() }
        thread.withLock { $0 = started }
    }

    /// Lines dropped because the output was too slow.
    public var droppedLines: Int { dropped.load(ordering: .relaxed) }

    /// Hands a line over, newline included.
    public func write(_ line: [UInt8]) {
        let mustWake: Bool? = waiting.withLock { waiting in
            guard !waiting.isStopped, waiting.bytes.count + line.count <= limit else { return nil }
            defer { waiting.isAwake = true }
            waiting.bytes += line
            return !waiting.isAwake
        }
        guard let mustWake else {
            dropped.add(1, ordering: .relaxed)
            return
        }
        if mustWake { wakeUp.signal() }
    }

    /// Blocks until everything handed over before is written, or the time is over.
    public func flush(within limit: Duration = .seconds(2)) {
        let deadline = MonotonicTime.now() + limit
        waiting.withLock { $0.flushers += 1 }
        wakeUp.signal()
        while MonotonicTime.now() < deadline {
            if waiting.withLock({ $0.bytes.isEmpty && !$0.isAwake }) { break }
            written.wait(milliseconds: 10)
            written.drain()
        }
        waiting.withLock { $0.flushers -= 1 }
    }

    /// Goes on with another output: a log file reopened after its rotation.
    public func replaceOutput(_ next: consuming OutputFile) {
        var next: OutputFile? = consume next
        output.withLock { output in
            if let replacement = next.take() { output = replacement }
        }
    }

    /// Writes what waits and ends the thread; lines that come later are dropped.
    public func stop() {
        waiting.withLock { $0.isStopped = true }
        wakeUp.signal()
        thread.withLock { $0.take() }?.join()
    }

    private func run() {
        while true {
            let batch = waiting.withLock { waiting in
                let batch = waiting
                waiting.bytes = []
                waiting.isAwake = !batch.bytes.isEmpty
                return batch
            }
            if batch.bytes.isEmpty {
                if batch.isStopped { return }
                if batch.flushers > 0 { written.signal() }
                wakeUp.wait(milliseconds: -1)
            } else {
                // A full disk or a closed terminal: there is nobody to tell.
                output.withLock { output in try? output.write(batch.bytes) }
                // The lines of the next milliseconds go out together, and their writers wake nobody.
                wakeUp.wait(milliseconds: Self.pause)
            }
            wakeUp.drain()
        }
    }

    private static let pause: Int32 = 5
}
