import CLinux
import Glibc
import Synchronization

/// A thread of the system, with a name that `ps -L` and the logs show.
public final class Thread: Sendable {
    private let handle: Mutex<pthread_t?>

    private init(_ handle: pthread_t) {
        self.handle = Mutex(handle)
    }

    /// Runs `body` on a new thread.
    ///
    /// - Parameter name: the kernel keeps the first 15 bytes.
    public static func start(
        name: String, _ body: @escaping @Sendable () -> Void
    ) throws(SystemCallError) -> Thread {
        final class Start: Sendable {
            let name: String
            let body: @Sendable () -> Void

            init(_ name: String, _ body: @escaping @Sendable () -> Void) {
                self.name = name
                self.body = body
            }
        }
        var handle = pthread_t()
        let start = unsafe Unmanaged.passRetained(Start(name, body))
        let failure = unsafe pthread_create(
            &handle, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                _ = unsafe clinux_set_thread_name(String(decoding: start.name.utf8.prefix(15), as: UTF8.self))
                start.body()
                return nil
            }, start.toOpaque())
        guard failure == 0 else {
            unsafe start.release()
            throw SystemCallError(call: "pthread_create", subject: name, number: failure)
        }
        return Thread(handle)
    }

    /// Waits until the thread has ended. Only the first call waits.
    public func join() {
        guard let handle = handle.withLock({ $0.take() }) else { return }
        _ = pthread_join(handle, nil)
    }

    deinit {
        if let handle = handle.withLock({ $0.take() }) { pthread_detach(handle) }
    }
}

/// How many processors this process may run on (sched_getaffinity(2)).
public func availableProcessorCount() -> Int {
    max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
}

extension Thread {
    /// Tells threads of this process apart; costs no system call.
    @inline(__always)
    public static var currentToken: UInt { UInt(pthread_self()) }
}
