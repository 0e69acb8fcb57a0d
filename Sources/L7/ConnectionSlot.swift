/// The place of an HTTP/1 connection among those that its destination may have, from the first step to make it until it is over.
final class ConnectionSlot {
    private weak var pool: EndpointPool?
    private weak var upstream: Upstream?
    private var isFree = false

    init(_ pool: EndpointPool) {
        self.pool = pool
        upstream = pool.upstream
        pool.connectionCount += 1
        pool.upstream.connectionCount += 1
    }

    func free() {
        guard !isFree else { return }
        isFree = true
        pool?.connectionCount -= 1
        upstream?.connectionCount -= 1
        pool?.wakeQueue()
        upstream?.connectionFreed()
    }

    deinit { free() }
}
