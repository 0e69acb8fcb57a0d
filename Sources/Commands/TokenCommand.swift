import Documents

/// `warren token create`: a join token for a node or a waypoint on another machine, made by the control component of this one.
public enum TokenCommand {
    /// Makes a token.
    ///
    /// - Parameters:
    ///   - node: the one node that it lets in; nil for a waypoint's.
    ///   - waypoint: the one waypoint that it lets in, `namespace/name`; nil for a node's.
    /// - Returns: the token, a secret.
    public static func create(
        runDirectory: String, node: String?, waypoint: String?, life: Duration
    ) throws(CommandError) -> String {
        let subject: String
        switch (node, waypoint) {
        case (let node?, nil): subject = "node=\(percentEncoded(node))"
        case (nil, let waypoint?):
            guard
                waypoint.split(separator: "/", omittingEmptySubsequences: false).filter({ !$0.isEmpty }).count
                    == 2
            else {
                throw .usage("--waypoint is NAMESPACE/NAME, such as shop/waypoint, not \(quoted(waypoint))")
            }
            subject = "waypoint=\(percentEncoded(waypoint))"
        default: throw .usage("name whom the token lets in: --node NAME, or --waypoint NAMESPACE/NAME")
        }
        guard life >= .seconds(1) else { throw .usage("--ttl: a token that lives \(life) lets nobody in") }
        let client = AdminClient(socketPath: "\(runDirectory)/control.sock")
        let target = "/tokens?\(subject)&ttl=\(life.components.seconds)"
        let token = String(decoding: try client.page(target, method: "POST"), as: UTF8.self)
        return String(token.prefix { !$0.isNewline })
    }
}
