import Linux

extension KeepAlive {
    /// 180 s of silence, then nine probes 180 s apart (ztunnel.md §1.2).
    package static let ztunnel = KeepAlive(idleSeconds: 180, intervalSeconds: 180, count: 9)
}
