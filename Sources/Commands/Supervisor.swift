import Linux

/// Runs programs in the foreground: passes their output on under their names, and starts again what ends.
///
/// One thread, which is in `turn` almost always; signals for the programs come to it as happenings.
final class Supervisor {
    /// A program to keep running.
    final class Program {
        let name: String
        fileprivate let path: String
        fileprivate let arguments: [String]
        fileprivate let namespace: NetworkNamespace?
        fileprivate let listeners: [Listener]
        fileprivate var process: ChildProcess?
        fileprivate var output: LineLabel
        fileprivate var error: LineLabel
        fileprivate var startedAt = MonotonicTime(nanoseconds: 0)
        fileprivate var restartAt: MonotonicTime?
        private var backoff = Backoff()
        /// Whether it is started again when it ends.
        var isKept = true

        fileprivate init(
            name: String, path: String, arguments: [String], namespace: consuming NetworkNamespace?,
            listeners: [Listener], output: LineLabel, error: LineLabel
        ) {
            self.name = name
            self.path = path
            self.arguments = arguments
            self.namespace = namespace
            self.listeners = listeners
            self.output = output
            self.error = error
        }

        var isRunning: Bool { process != nil }

        fileprivate func nextWait(now: MonotonicTime) -> Duration {
            backoff.wait(afterRunOf: now - startedAt)
        }
    }

    /// A listening socket that programs are given.
    final class Listener {
        let socket: Socket

        init(_ socket: consuming Socket) {
            self.socket = socket
        }
    }

    enum Happening {
        case signal(Signal)
        /// A program ended; if it is kept, it will be started again after the wait.
        case ended(Program, ExitStatus, restartIn: Duration?)
    }

    /// So many buffers of one program's output are passed on before others have their turn.
    private static let readsPerTurn = 64

    private let epoll: Epoll
    private let signals: SignalDescriptor
    private let standardOutput: OutputFile
    private let standardError: OutputFile
    private(set) var programs: [Program] = []
    private let labelWidth: Int
    private let ourLabel: LineLabel
    /// Bytes of output that nobody took.
    private var lostBytes = 0
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    /// - Parameter labelWidth: room for the longest name.
    init(labelWidth: Int) throws(SystemCallError) {
        epoll = try Epoll(capacity: 64)
        signals = try SignalDescriptor([.interrupt, .terminate, .hangup])
        standardOutput = try OutputFile.standardOutput()
        standardError = try OutputFile.standardError()
        self.labelWidth = labelWidth
        ourLabel = LineLabel("warren", width: labelWidth, colour: standardError.isTerminal ? 1 : nil)
        try epoll.add(signals.reference, .readable, token: 0)
    }

    /// Says something in the name of the command itself. Where nobody reads, nothing is lost that matters.
    func note(_ text: String) {
        put(ourLabel.line(text), to: standardError)
    }

    /// Passes output on, as far as somebody takes it: programs are looked after whether or not anybody reads.
    private func put(_ bytes: [UInt8], to file: borrowing OutputFile) {
        let written = (try? file.writeWhatFits(bytes)) ?? 0
        if written < bytes.count {
            lostBytes += bytes.count - written
        } else if lostBytes > 0 {
            let lost = lostBytes
            lostBytes = 0
            note("\(lost) bytes of output were lost: nobody read them")
        }
    }

    /// Starts a program and keeps it.
    ///
    /// - Parameters:
    ///   - namespace: where it runs; nil for ours.
    ///   - listeners: sockets that it finds as descriptors 3, 4, …
    func start(
        name: String, path: String, arguments: [String], namespace: consuming NetworkNamespace? = nil,
        listeners: [Listener] = []
    ) throws(SystemCallError) -> Program {
        // Cyan to green; each program keeps its colour.
        let colour = 32 + (programs.count + 4) % 5
        let program = Program(
            name: name, path: path, arguments: arguments, namespace: namespace, listeners: listeners,
            output: LineLabel(name, width: labelWidth, colour: standardOutput.isTerminal ? colour : nil),
            error: LineLabel(name, width: labelWidth, colour: standardError.isTerminal ? colour : nil))
        programs.append(program)
        try launch(program, index: programs.count - 1)
        return program
    }

    /// Sends a signal to a program that runs.
    func signal(_ program: Program, _ signal: Signal) {
        program.process?.send(signal)
    }

    /// Waits for what happens next and deals with it, at most so long.
    func turn(milliseconds: Int32) -> [Happening] {
        let now = MonotonicTime.now()
        var wait = milliseconds
        for program in programs {
            if let restartAt = program.restartAt {
                wait = min(wait, Int32(clamping: max(0, (restartAt - now).wholeMilliseconds + 1)))
            }
        }
        let count = epoll.wait(milliseconds: wait)
        var happenings: [Happening] = []
        for index in 0..<count {
            let token = epoll[index].token
            if token == 0 {
                while let signal = signals.next() { happenings.append(.signal(signal)) }
                continue
            }
            let (number, part) = (Int(token / 4) - 1, token % 4)
            guard programs.indices.contains(number) else { continue }
            switch part {
            case 1: happenings += reap(programs[number])
            case 2: forwardOutput(of: programs[number])
            default: forwardError(of: programs[number])
            }
        }
        restartDue()
        return happenings
    }

    // MARK: Programs

    private func launch(_ program: Program, index: Int) throws(SystemCallError) {
        var options = ChildProcess.Options()
        options.output = .piped
        options.error = .piped
        options.passed = program.listeners.map { $0.socket.reference }
        program.startedAt = .now()
        program.restartAt = nil
        let process = try Self.spawn(program, options)
        let token = UInt64(index + 1) * 4
        try epoll.add(process.reference, .readable, token: token + 1)
        try process.standardOutput.watch(epoll, token: token + 2)
        try process.standardError.watch(epoll, token: token + 3)
        program.process = consume process
    }

    private static func spawn(
        _ program: Program, _ options: ChildProcess.Options
    ) throws(SystemCallError) -> ChildProcess {
        // A child begins in the namespace of the thread that makes it.
        try program.namespace.perform { () throws(SystemCallError) in
            try ChildProcess.start(program.path, program.arguments, options)
        }
    }

    private func reap(_ program: Program) -> [Happening] {
        guard let status = try? program.process?.status() else { return [] }
        forwardOutput(of: program)
        forwardError(of: program)
        put(program.output.flush(), to: standardOutput)
        put(program.error.flush(), to: standardError)
        // Closing the descriptors also takes them out of the epoll set.
        program.process = nil
        guard program.isKept else { return [.ended(program, status, restartIn: nil)] }
        let now = MonotonicTime.now()
        let wait = program.nextWait(now: now)
        program.restartAt = now + wait
        return [.ended(program, status, restartIn: wait)]
    }

    private func restartDue() {
        let now = MonotonicTime.now()
        for (index, program) in programs.enumerated() {
            guard program.isKept, let restartAt = program.restartAt, restartAt <= now else { continue }
            do { try launch(program, index: index) } catch {
                let wait = program.nextWait(now: now)
                program.restartAt = now + wait
                note("\(program.name) cannot be started: \(error); the next try is in \(wait)")
            }
        }
    }

    // MARK: Output

    private func forwardOutput(of program: Program) {
        for _ in 0..<Self.readsPerTurn {
            guard let count = program.process.readOutput(into: &buffer) else { return }
            put(program.output.add(buffer[..<count]), to: standardOutput)
        }
    }

    private func forwardError(of program: Program) {
        for _ in 0..<Self.readsPerTurn {
            guard let count = program.process.readError(into: &buffer) else { return }
            put(program.error.add(buffer[..<count]), to: standardError)
        }
    }
}

// Optionals of types that cannot be copied have no `map`; these are the few steps that are taken through one.

extension Optional where Wrapped == PipeEnd {
    fileprivate borrowing func watch(_ epoll: borrowing Epoll, token: UInt64) throws(SystemCallError) {
        switch self {
        case .some(let end): try epoll.add(end.reference, .readable, token: token)
        case .none: break
        }
    }

    /// Bytes that wait in the pipe; nil when there are none. A pipe at its end is closed.
    fileprivate mutating func take(into buffer: inout [UInt8]) -> Int? {
        guard let end = take() else { return nil }
        let result = unsafe buffer.withUnsafeMutableBytes { unsafe end.read(into: $0) }
        switch result {
        case .bytes(let count):
            self = consume end
            return count
        case .wouldBlock:
            self = consume end
            return nil
        case .end, .failed: return nil
        }
    }
}

extension Optional where Wrapped == ChildProcess {
    fileprivate mutating func readOutput(into buffer: inout [UInt8]) -> Int? {
        guard var process = take() else { return nil }
        let count = process.standardOutput.take(into: &buffer)
        self = consume process
        return count
    }

    fileprivate mutating func readError(into buffer: inout [UInt8]) -> Int? {
        guard var process = take() else { return nil }
        let count = process.standardError.take(into: &buffer)
        self = consume process
        return count
    }
}

extension Optional where Wrapped == NetworkNamespace {
    /// Runs `body` inside the namespace, or where we are without one.
    borrowing func perform<T: ~Copyable>(
        _ body: () throws(SystemCallError) -> T
    ) throws(SystemCallError) -> T {
        switch self {
        case .some(let namespace): try namespace.perform(body)
        case .none: try body()
        }
    }
}
