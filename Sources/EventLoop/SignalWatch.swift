import Linux

/// Calls back for signals on a loop, for as long as it is kept.
public final class SignalWatch: Pollable {
    private let signals: SignalDescriptor
    private let received: (Signal) -> Void

    public init(
        _ loop: EventLoop, _ signals: consuming SignalDescriptor, _ received: @escaping (Signal) -> Void
    ) throws(SystemCallError) {
        self.signals = signals
        self.received = received
        super.init()
        _ = try loop.register(self, self.signals, .readable)
    }

    public override func ready(_ events: Events) {
        while let signal = signals.next() { received(signal) }
    }
}
