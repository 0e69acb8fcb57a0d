/// `warren token create`: a join token for a node on another machine, made by the control component of this one.
public enum TokenCommand {
    /// Makes a token.
    ///
    /// - Parameter node: the one node that it lets in.
    /// - Returns: the token, a secret.
    public static func create(runDirectory: String, node: String, life: Duration) throws(CommandError)
        -> String
    {
        guard life >= .seconds(1) else { throw .usage("--ttl: a token that lives \(life) lets nobody in") }
        let client = AdminClient(socketPath: "\(runDirectory)/control.sock")
        let target = "/tokens?node=\(percentEncoded(node))&ttl=\(life.components.seconds)"
        let token = String(decoding: try client.page(target, method: "POST"), as: UTF8.self)
        return String(token.prefix { !$0.isNewline })
    }
}
