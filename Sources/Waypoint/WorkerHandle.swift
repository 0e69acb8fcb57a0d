import EventLoop
import Linux
import Synchronization

/// A worker as other threads see it.
final class WorkerHandle: Sendable {
    let index: Int
    /// Tunnels that came to it, for new ones to go where there are fewest.
    let tunnelCount = Atomic<Int>(0)
    private let worker = Mutex<LoopBound<WaypointWorker>?>(nil)
    private let thread = Mutex<LoopThread?>(nil)

    private init(index: Int) {
        self.index = index
    }

    /// Starts a worker's thread. It accepts nothing before it is given listeners.
    static func start(index: Int, _ shared: WorkerShared) throws(SystemCallError) -> WorkerHandle {
        let handle = WorkerHandle(index: index)
        let thread = try EventLoop.start(name: "worker-\(index)", registry: shared.registry) { loop in
            let worker = LoopBound(WaypointWorker(loop, handle, shared))
            handle.worker.withLock { $0 = worker }
        }
        handle.thread.withLock { $0 = thread }
        return handle
    }

    /// Runs `body` on the worker's thread, after everything that was asked for before.
    func perform(_ body: @escaping @Sendable (WaypointWorker) -> Void) {
        let mailbox = thread.withLock { $0?.mailbox }
        mailbox?.post { [self] _ in
            if let worker = worker.withLock({ $0 }) { body(worker.value) }
        }
    }

    func stop() {
        let thread = thread.withLock { $0 }
        thread?.stop()
        thread?.join()
    }
}
