/// What the connections of one workload may move in one turn of a loop, and which of them wait for a later one.
///
/// A turn serves every descriptor that is ready, so it lasts as long as all that they move. With a share for each workload
/// one that moves as much as it can lengthens a turn by its share and no more, however many connections it does it with. Its
/// own connections are served in the order in which they began to wait.
///
/// While workloads share a loop each has a sixteenth of what one alone has: large reads save CPU where nobody waits, and short
/// turns save waiting where somebody does.
public final class TurnShare {
    /// As much as the largest read moves: a single stream never waits in vain.
    public static let byteCount = 2 << 20

    private let loop: EventLoop
    private let wholeLimit: Int
    private var limit: Int { loop.isShared ? wholeLimit / 16 : wholeLimit }
    private var turn: UInt64 = 0
    private var left: Int
    /// Who waits, in order; before `first` they have been served.
    private var waiting: ContiguousArray<Pollable> = []
    private var first = 0
    /// Whose turn it is.
    private var served: Pollable?

    public init(_ loop: EventLoop, byteCount: Int = TurnShare.byteCount) {
        self.loop = loop
        wholeLimit = byteCount
        left = byteCount
    }

    /// Bytes that may still be moved in this turn.
    public var remaining: Int {
        turn == loop.turnCount ? max(0, left) : limit
    }

    /// Whether something may move bytes now. If not, its `resumed` is called in a later turn, however often it asks before.
    public func admit(_ pollable: Pollable) -> Bool {
        guard !pollable.waitsForShare else { return false }
        // Behind who waits already, unless it is who waited.
        if remaining > 0, first == waiting.count || served === pollable { return true }
        pollable.waitsForShare = true
        waiting.append(pollable)
        loop.resumeNextTurn(self)
        return false
    }

    /// Takes moved bytes off this turn's share.
    public func spend(_ byteCount: Int) {
        if turn != loop.turnCount {
            turn = loop.turnCount
            loop.noteUse(by: self)
            left = limit
        }
        left -= byteCount
    }

    var isEmpty: Bool { first == waiting.count }

    /// Lets those who wait move what a new turn allows.
    func resume() {
        while first < waiting.count, remaining > 0 {
            let pollable = waiting[first]
            first += 1
            pollable.waitsForShare = false
            served = pollable
            pollable.resumed()
        }
        served = nil
        if first == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            first = 0
        } else if first >= 64 {
            waiting.removeFirst(first)
            first = 0
        }
    }
}
