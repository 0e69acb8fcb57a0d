import Synchronization

/// Carries one owned value, a socket for example, through a closure to another thread, where it is taken once.
///
/// Closures copy what they capture and an owned value cannot be copied; whoever takes it first owns it. One that nobody takes
/// ends with its parcel: a socket handed to a loop that has stopped is closed.
public final class Parcel<Value: ~Copyable & Sendable>: Sendable {
    private let content: Mutex<Value?>

    public init(_ value: consuming sending Value) {
        content = Mutex(consume value)
    }

    /// The value; nil when it was taken before.
    public func take() -> Value? { content.withLock { $0.take() } }
}
