import Mesh

/// How the two directions of a relayed connection end: each for itself, in order, and both together exactly once.
///
/// Pure: the relay reports what it saw, and does what the step says.
struct RelayMachine {
    enum Side: Hashable, Sendable {
        /// Who opened the connection.
        case client
        case server

        var other: Side { self == .client ? .server : .client }
    }

    enum Step: Equatable, Sendable {
        case proceed
        /// Tell this side that no more comes (FIN, END_STREAM); everything before it has been delivered.
        case finish(Side)
        /// Both directions are done, or one broke: let go of everything.
        case over(CloseReason)
    }

    private struct Direction {
        /// Its source has finished sending.
        var hasEnded = false
        /// Its destination has been told.
        var isFinished = false
    }

    private var toClient = Direction()
    private var toServer = Direction()
    /// How it ended; nothing follows.
    private(set) var reason: CloseReason?

    private subscript(toward side: Side) -> Direction {
        get { side == .client ? toClient : toServer }
        set { if side == .client { toClient = newValue } else { toServer = newValue } }
    }

    var isOver: Bool { reason != nil }

    /// Whether this side may still send.
    func isSending(_ side: Side) -> Bool { reason == nil && !self[toward: side.other].hasEnded }

    /// Whether this side has been told that no more comes.
    func isFinished(_ side: Side) -> Bool { self[toward: side].isFinished }

    /// A side has finished sending.
    ///
    /// - Parameter isDelivered: nothing that it sent waits for the other side.
    mutating func ended(_ side: Side, isDelivered: Bool) -> Step {
        guard reason == nil, !self[toward: side.other].hasEnded else { return .proceed }
        self[toward: side.other].hasEnded = true
        return isDelivered ? finish(side.other) : .proceed
    }

    /// Nothing waits any more for a side.
    mutating func delivered(to side: Side) -> Step {
        guard reason == nil, self[toward: side].hasEnded, !self[toward: side].isFinished else {
            return .proceed
        }
        return finish(side)
    }

    private mutating func finish(_ side: Side) -> Step {
        self[toward: side].isFinished = true
        return .finish(side)
    }

    /// After a `finish` was carried out: over when the other direction was finished before.
    mutating func settled() -> Step {
        toClient.isFinished && toServer.isFinished ? end(.completed) : .proceed
    }

    /// A side has broken its connection.
    mutating func broken(by side: Side) -> Step { end(side == .client ? .resetByClient : .resetByServer) }

    /// Ends both directions for a reason of ours.
    mutating func end(_ cause: CloseReason) -> Step {
        guard reason == nil else { return .proceed }
        reason = cause
        return .over(cause)
    }
}
