import Capture
import EventLoop
import Linux
import Mesh
import Metrics
import Synchronization

/// The captor on its own thread, as others see it.
final class CaptorThread: Sendable {
    private let thread: LoopThread
    private let captor: Slot

    private final class Slot: Sendable {
        let content = Mutex<LoopBound<PodCaptor>?>(nil)
    }

    init(
        check: NamespaceCheck, capture: CaptureConfiguration, choice: CaptureChoice, host: any PodHost,
        registry: Registry,
        report: @escaping @Sendable (CaptureReport) -> Void,
        changed: @escaping @Sendable (CaptorState) -> Void
    ) throws(SystemCallError) {
        let slot = Slot()
        captor = slot
        thread = try EventLoop.start(name: "capture", registry: registry) { loop in
            let captor = LoopBound(
                PodCaptor(
                    loop, check: check, capture: capture, choice: choice, host: host, registry: registry,
                    report: report,
                    changed: changed))
            slot.content.withLock { $0 = captor }
        }
    }

    /// Runs `body` on the captor's thread, after everything that was asked for before.
    func perform(_ body: @escaping @Sendable (PodCaptor) -> Void) {
        thread.mailbox.post { [captor] _ in
            if let captor = captor.content.withLock({ $0 }) { body(captor.value) }
        }
    }

    func stop() {
        thread.stop()
        thread.join()
    }
}
