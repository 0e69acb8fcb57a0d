import EventLoop
import Mesh

/// Joins the two sides of a connection until both directions have ended. Bound to its loop.
///
/// It keeps itself alive until then; `onEnd` is called exactly once, last of all.
public class Relay: Pollable {
    public let loop: EventLoop
    /// Bytes that came from whoever opened the connection.
    public internal(set) var bytesFromClient: UInt64 = 0
    /// Bytes that went to whoever opened the connection.
    public internal(set) var bytesToClient: UInt64 = 0
    /// Told why the connection ended. Set it before the relay starts.
    public var onEnd: ((CloseReason) -> Void)?

    var machine = RelayMachine()

    init(loop: EventLoop) {
        self.loop = loop
        super.init()
    }

    /// Ends the connection at once for a reason of ours: both sides see a reset.
    public final func cut(_ reason: CloseReason) {
        carryOut(machine.end(reason))
    }

    final func count(from side: RelayMachine.Side, _ byteCount: Int) {
        if side == .client {
            bytesFromClient &+= UInt64(byteCount)
        } else {
            bytesToClient &+= UInt64(byteCount)
        }
    }

    final func carryOut(_ step: RelayMachine.Step) {
        var step = step
        while true {
            switch step {
            case .proceed: return
            case .finish(let side):
                // Settled first: who ends with this needs no FIN of its own before the close that sends one.
                step = machine.settled()
                finish(side)
            case .over(let reason):
                release(reason)
                let report = onEnd
                onEnd = nil
                report?(reason)
                return
            }
        }
    }

    /// Tells a side that no more comes.
    func finish(_ side: RelayMachine.Side) {}

    /// Lets go of both sides: in peace after `.completed`, else so that they see a reset.
    func release(_ reason: CloseReason) {}

    /// How long what one side sent is still offered to the other after the first has broken its connection.
    static let deliveryPatience = Duration.seconds(30)
}
