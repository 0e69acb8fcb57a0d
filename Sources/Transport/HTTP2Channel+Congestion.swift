import Linux

extension HTTP2Channel {
    /// By which TCP congestion control it sends, as the kernel calls it; for dumps. Empty once the socket is closed.
    public var congestionControl: String { socket?.congestionControl ?? "" }

    /// Behind the handshake, which has shown how long the path is.
    func settleCongestionControl() {
        guard configuration.congestion.far != nil, let current = socket?.congestionControl else { return }
        let roundTrip = socket?.shortestRoundTrip
        let change = configuration.congestion.change(from: current, roundTrip: roundTrip)
        if let change, socket?.setCongestionControl(firstOf: [change]) == nil {
            HTTP2Channel.logger.limited(
                .seconds(60), .warn, "a TCP congestion control cannot be had any more", ["name": change])
        }
        HTTP2Channel.logger.debug(
            "congestion control",
            [
                "peer": "\(peerAddress.map { "\($0)" } ?? "unix")", "name": congestionControl,
                "round_trip": "\(roundTrip.map { "\($0)" } ?? "unknown")",
            ])
    }
}
