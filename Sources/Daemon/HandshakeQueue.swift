/// Tunnels into one pod, on one worker, whose peers have yet to prove who they are, oldest first.
///
/// Anybody who reaches the port can begin a handshake and leave it at that. So that nobody can keep members out by it,
/// there are only so many, and the oldest makes room: an honest handshake takes milliseconds.
package struct HandshakeQueue<Tunnel> {
    private let limit: Int
    private var queue: [Tunnel] = []
    private let isDone: (Tunnel) -> Bool

    package init(limit: Int, isDone: @escaping (Tunnel) -> Bool) {
        self.limit = limit
        self.isDone = isDone
    }

    /// Adds one.
    ///
    /// - Returns: what has to be ended to make room for it.
    package mutating func append(_ tunnel: Tunnel) -> Tunnel? {
        // Handshakes end about in the order in which they begin, so this keeps nearly none that is done.
        queue.removeFirst(queue.prefix(while: isDone).count)
        var evicted: Tunnel?
        if queue.count >= limit {
            queue.removeAll(where: isDone)
            if queue.count >= limit { evicted = queue.removeFirst() }
        }
        queue.append(tunnel)
        return evicted
    }

    package mutating func removeAll() {
        queue = []
    }
}
