import Linux

/// A pod's network namespace, held open by everybody who makes sockets in it.
final class PodNamespace: Sendable {
    let handle: NetworkNamespace

    init(_ handle: consuming NetworkNamespace) {
        self.handle = handle
    }

    var identity: NetworkNamespace.Identity { handle.identity }
}
