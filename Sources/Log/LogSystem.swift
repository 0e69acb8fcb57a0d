import Linux
import Synchronization

/// Where loggers write to and what they may write; one per process, more in tests.
public final class LogSystem: Sendable {
    /// Standard error, `info`, text, until `start` says otherwise.
    public static let shared = LogSystem()

    private struct State {
        var filter = LogFilter()
        var format = LogFormat.text
        var writer: LineWriter?
        var scopes: [String: LogScope] = [:]
        var sites: [CallSite: SiteState] = [:]
    }

    private let state = Mutex(State())

    public init() {}

    /// Starts the writer thread; before that every line is written by its caller.
    ///
    /// Call it after privileges are dropped: a thread keeps the ones it was born with.
    public func start(
        _ filter: LogFilter, _ format: LogFormat, to output: consuming OutputFile
    ) throws(SystemCallError) {
        let writer = try LineWriter(output)
        state.withLock {
            $0.format = format
            $0.writer = writer
        }
        self.filter = filter
    }

    /// What is written; may be changed at any time.
    public var filter: LogFilter {
        get { state.withLock { $0.filter } }
        set {
            state.withLock { state in
                state.filter = newValue
                for (name, scope) in state.scopes { scope.set(newValue.level(for: name)) }
            }
        }
    }

    /// Lines dropped because standard error was too slow.
    public var droppedLines: Int { state.withLock { $0.writer }?.droppedLines ?? 0 }

    /// Blocks until everything is written; for the end of a program.
    public func flush() {
        state.withLock { $0.writer }?.flush()
    }

    func scope(_ name: String) -> LogScope {
        state.withLock { state in
            if let known = state.scopes[name] { return known }
            let scope = LogScope(name, state.filter.level(for: name))
            state.scopes[name] = scope
            return scope
        }
    }

    func write(_ line: LogLine) {
        let (format, writer) = state.withLock { ($0.format, $0.writer) }
        let bytes = line.encoded(format)
        if let writer {
            writer.write(bytes)
        } else if let standardError = try? OutputFile.standardError() {
            try? standardError.write(bytes)
        }
    }

    /// Whether a place may write now.
    ///
    /// - Returns: how many lines it had to hold back since its last, nil to hold this one back too.
    func admit(_ site: CallSite, every interval: Duration, now: MonotonicTime) -> Int? {
        state.withLock { state in
            let known = state.sites[site]
            if let known, now < known.quietUntil {
                state.sites[site]?.suppressed += 1
                return nil
            }
            state.sites[site] = SiteState(quietUntil: now + interval, suppressed: 0)
            return known?.suppressed ?? 0
        }
    }
}

/// A place in the source that logs with a limit. There are as many as the source has, so the table is bounded.
struct CallSite: Hashable {
    let file: UInt
    let line: UInt
    let scope: String
}

private struct SiteState {
    var quietUntil: MonotonicTime
    var suppressed: Int
}

/// A scope's level, read at every call and changed at run time.
final class LogScope: Sendable {
    let name: String
    private let level: Atomic<Int>

    init(_ name: String, _ level: LogLevel) {
        self.name = name
        self.level = Atomic(level.rawValue)
    }

    func set(_ level: LogLevel) {
        self.level.store(level.rawValue, ordering: .relaxed)
    }

    func allows(_ level: LogLevel) -> Bool { level.rawValue <= self.level.load(ordering: .relaxed) }
}
