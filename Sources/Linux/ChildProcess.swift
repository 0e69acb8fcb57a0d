import CLinux
import Glibc

/// How a child process ended.
public enum ExitStatus: Equatable, Sendable {
    case exited(Int32)
    case killed(signal: Int32)
}

/// A program started by us. Its descriptor becomes readable when the program ends (pidfd_open(2)).
///
/// One that is still running when its owner ends goes on without us; `warren up` ends its own by name.
public struct ChildProcess: ~Copyable, Sendable, EventSource {
    /// Where a stream of the child goes.
    public enum Stream: Equatable, Sendable {
        /// The same as ours.
        case inherited
        /// /dev/null.
        case discarded
        /// A pipe, whose our end is in the process's `standardInput`, `standardOutput` or `standardError`.
        case piped
    }

    public struct Options: Sendable {
        public var input = Stream.discarded
        public var output = Stream.inherited
        public var error = Stream.inherited
        /// The whole environment, as `NAME=value`; nil gives the child ours.
        public var environment: [String]?
        /// Descriptors that the child finds as 3, 4, … in this order; they stay ours as well.
        public var passed: [DescriptorReference] = []
        /// Puts the child into a process group of its own, so that a terminal's Ctrl-C reaches only us.
        public var ownGroup = true

        public init() {}
    }

    public let pid: Int32
    private let descriptor: Descriptor
    /// Our ends of the streams asked for as pipes; taken by their reader.
    public var standardInput: PipeEnd?
    public var standardOutput: PipeEnd?
    public var standardError: PipeEnd?

    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }

    /// Starts a program. It runs in the network namespace of the calling thread.
    ///
    /// - Parameters:
    ///   - program: a path, or a name to be found on PATH.
    ///   - arguments: without the program's own name.
    /// - Throws: also when the program cannot be executed (ENOENT, EACCES).
    public static func start(
        _ program: String, _ arguments: [String], _ options: Options = Options()
    ) throws(SystemCallError) -> ChildProcess {
        var input = try ChildStream(options.input, 0)
        var output = try ChildStream(options.output, 1)
        var error = try ChildStream(options.error, 2)

        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe input.redirect(&actions)
        unsafe output.redirect(&actions)
        unsafe error.redirect(&actions)
        // First out of the way of the numbers they will have in the child, where one could overwrite another.
        let passed = try PassedDescriptors(options.passed)
        unsafe passed.redirect(&actions)

        // The child starts with no signal blocked or ignored, whatever we did for our own signal descriptor.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        unsafe sigemptyset(&none)
        unsafe sigfillset(&all)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setsigdefault(&attributes, &all)
        let flags =
            POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (options.ownGroup ? POSIX_SPAWN_SETPGROUP : 0)
        unsafe posix_spawnattr_setflags(&attributes, Int16(flags))

        var child: pid_t = 0
        let failure = unsafe withCStrings([program] + arguments) { argumentList in
            guard let environment = options.environment else {
                return unsafe posix_spawnp(&child, program, &actions, &attributes, argumentList, environ)
            }
            return unsafe withCStrings(environment) { environmentList in
                unsafe posix_spawnp(&child, program, &actions, &attributes, argumentList, environmentList)
            }
        }
        passed.close()
        guard failure == 0 else {
            throw SystemCallError(call: "posix_spawn", subject: program, number: failure)
        }
        // The child stays a zombie until `status` has reaped it, so its number cannot mean another process yet.
        let number = try systemCall("pidfd_open", on: program) { clinux_pidfd_open(child) }
        return ChildProcess(
            pid: child, descriptor: Descriptor(owning: number), standardInput: input.ours.take(),
            standardOutput: output.ours.take(), standardError: error.ours.take())
    }

    /// How the program ended; nil while it runs. Reaps it, so that only the first answer is from the kernel.
    public func status() throws(SystemCallError) -> ExitStatus? {
        try wait(flags: exitedOnly | noHang)
    }

    /// Blocks the calling thread until the program has ended.
    public func wait() throws(SystemCallError) -> ExitStatus {
        while true {
            if let status = try wait(flags: exitedOnly) { return status }
        }
    }

    private func wait(flags: Int32) throws(SystemCallError) -> ExitStatus? {
        var (code, status): (Int32, Int32) = (0, 0)
        try systemCall("waitid", on: "process \(pid)") {
            unsafe clinux_waitid_pidfd(descriptor.number, flags, &code, &status)
        }
        if code == 0 { return nil }
        return code == childExited ? .exited(status) : .killed(signal: status)
    }

    /// Sends a signal; nothing happens when the program has ended already.
    public func send(_ signal: Signal) {
        _ = clinux_pidfd_send_signal(descriptor.number, signal.rawValue)
    }
}

/// One of the three standard streams on its way into a child.
private struct ChildStream: ~Copyable {
    let stream: ChildProcess.Stream
    let target: Int32
    var ours: PipeEnd?
    private var theirs: PipeEnd?
    private var source: Int32 = -1

    init(_ stream: ChildProcess.Stream, _ target: Int32) throws(SystemCallError) {
        self.stream = stream
        self.target = target
        ours = nil
        theirs = nil
        guard stream == .piped else { return }
        let pipe = try Pipe()
        source = target == 0 ? pipe.readEnd.descriptor.number : pipe.writeEnd.descriptor.number
        // Programs expect their standard streams to block.
        try systemCall("fcntl", on: "pipe") { clinux_fcntl(source, F_SETFL, 0) }
        let readEnd = pipe.readEnd
        let writeEnd = pipe.writeEnd
        if target == 0 {
            theirs = consume readEnd
            ours = consume writeEnd
        } else {
            ours = consume readEnd
            theirs = consume writeEnd
        }
    }

    func redirect(_ actions: UnsafeMutablePointer<posix_spawn_file_actions_t>) {
        switch stream {
        case .inherited: break
        case .discarded:
            unsafe posix_spawn_file_actions_addopen(actions, target, "/dev/null", O_RDWR, 0)
        case .piped: unsafe posix_spawn_file_actions_adddup2(actions, source, target)
        }
    }
}

/// Copies of descriptors, with numbers above those that a child is given.
private struct PassedDescriptors {
    private var numbers: [Int32] = []

    init(_ references: [DescriptorReference]) throws(SystemCallError) {
        precondition(references.count <= firstCopy - firstPassed, "more descriptors than a child is given")
        for reference in references {
            let number = clinux_fcntl(reference.number, duplicateCloseOnExec, Int32(firstCopy))
            guard number >= 0 else {
                let failure = errno
                close()
                throw SystemCallError(call: "fcntl", subject: "passed descriptor", number: failure)
            }
            numbers.append(number)
        }
    }

    func redirect(_ actions: UnsafeMutablePointer<posix_spawn_file_actions_t>) {
        for (index, number) in numbers.enumerated() {
            unsafe posix_spawn_file_actions_adddup2(actions, number, Int32(firstPassed + index))
        }
    }

    func close() {
        for number in numbers { Glibc.close(number) }
    }
}

private let firstPassed = 3
private let firstCopy = 256

/// Calls `body` with a NULL-ended list of C strings.
private func withCStrings(
    _ texts: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Int32
) -> Int32 {
    var list = unsafe texts.map { unsafe strdup($0) } + [nil]
    defer { unsafe list.forEach { unsafe free($0) } }
    return unsafe list.withUnsafeMutableBufferPointer { buffer in
        guard let start = buffer.baseAddress else { return EINVAL }
        return unsafe body(start)
    }
}

private let exitedOnly: Int32 = 4
private let noHang: Int32 = 1
private let childExited: Int32 = 1
