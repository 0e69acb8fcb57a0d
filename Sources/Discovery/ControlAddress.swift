import Address
import EventLoop
import Linux
import Log

/// Where the control component is: `host:port`, and the addresses that the host has now.
///
/// Bound to a loop. Names are looked up on a thread of their own, for the resolver blocks; the answer is good until a
/// connection fails.
final class ControlAddress {
    let host: String
    private let port: UInt16
    private let mailbox: Mailbox
    private let isLiteral: Bool
    private var addresses: [IPAddress] = []
    private var isLookingUp = false
    private let logger = Logger(scope: "xds")

    /// Nil when `text` is not `host:port`.
    init?(_ text: String, mailbox: Mailbox) {
        self.mailbox = mailbox
        if let address = SocketAddress(text) {
            host = address.address.description
            port = address.port
            addresses = [address.address]
            isLiteral = true
            return
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, let port = parsePort(parts[1]), port != 0 else {
            return nil
        }
        host = String(parts[0])
        self.port = port
        isLiteral = false
    }

    /// The address for an attempt to connect: each in its turn. Nil while the name is being looked up.
    func address(attempt: Int) -> SocketAddress? {
        guard !addresses.isEmpty else {
            lookUp()
            return nil
        }
        return SocketAddress(addresses[attempt % addresses.count], port)
    }

    /// A connection failed or ended: the host may have moved.
    func refresh() {
        lookUp()
    }

    private func lookUp() {
        guard !isLiteral, !isLookingUp else { return }
        isLookingUp = true
        let bound = LoopBound(self)
        do throws(SystemCallError) {
            _ = try Thread.start(name: "lookup") { [host, mailbox] in
                let result = Result<[IPAddress], HostLookupError> { () throws(HostLookupError) in
                    try lookUpHost(host)
                }
                mailbox.post { _ in bound.value.found(result) }
            }
        } catch {
            isLookingUp = false
            logger.limited(.seconds(10), .warn, "no thread to look up a host", ["error": "\(error)"])
        }
    }

    private func found(_ result: Result<[IPAddress], HostLookupError>) {
        isLookingUp = false
        switch result {
        // What was known stays good enough when the resolver is in trouble.
        case .success(let found): if !found.isEmpty { addresses = found }
        case .failure(let error):
            logger.limited(.seconds(10), .warn, "host not found", ["error": "\(error)"])
        }
    }
}
