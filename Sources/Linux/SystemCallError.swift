import Glibc

/// A system call that failed: which one, on what, and why.
public struct SystemCallError: Error, CustomStringConvertible, Sendable {
    public let call: StaticString
    public let subject: String
    /// The errno value.
    public let number: Int32

    public init(call: StaticString, subject: String, number: Int32) {
        self.call = call
        self.subject = subject
        self.number = number
    }

    public var description: String {
        "\(call) \(subject): \(errorText(number))"
    }

    /// The file, process or namespace does not exist (ENOENT, ESRCH).
    public var isMissing: Bool { number == ENOENT || number == ESRCH }

    /// Nobody listens there.
    public var isRefused: Bool { number == ECONNREFUSED }

    /// We are not allowed to.
    public var isDenied: Bool { number == EACCES || number == EPERM }
}

/// What errno value `number` means, in words.
public func errorText(_ number: Int32) -> String {
    // strerror_r in place of strerror: loops fail at the same time and would share its buffer.
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { text in
        guard let start = text.baseAddress, unsafe strerror_r(number, start, 128) == 0 else {
            return "error \(number)"
        }
        return unsafe String(cString: start)
    }
}

/// Runs a system call, retrying while a signal interrupts it.
///
/// - Throws: `SystemCallError` when the call answers -1.
@discardableResult
func systemCall(
    _ call: StaticString, on subject: @autoclosure () -> String, _ body: () -> Int32
) throws(SystemCallError) -> Int32 {
    while true {
        let result = body()
        if result >= 0 { return result }
        if errno != EINTR { throw SystemCallError(call: call, subject: subject(), number: errno) }
    }
}
