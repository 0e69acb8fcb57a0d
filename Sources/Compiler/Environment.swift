/// What the compilation takes from the mesh's configuration rather than from objects.
public struct Environment: Hashable, Sendable {
    /// Which pods are reachable by HBONE.
    public enum Enrolment: Hashable, Sendable {
        /// Those that are declared to be in the mesh: in stand-alone use nothing reaches such a pod in any other way.
        case declared
        /// Those whose annotation `ambient.istio.io/redirection` says that they are captured (Kubernetes).
        case annotation
    }

    public var clusterID: String
    public var clusterDomain: String
    public var trustDomain: String
    /// Its policies without selector are for the whole mesh.
    public var rootNamespace: String
    public var enrolment: Enrolment
    /// Whether policies in rehearsal are sent, marked as such. A ztunnel before 1.29 does not know the mark and would
    /// enforce them.
    public var publishesDryRuns: Bool

    public init(
        clusterID: String = "Kubernetes", clusterDomain: String = "cluster.local",
        trustDomain: String = "cluster.local",
        rootNamespace: String = "istio-system", enrolment: Enrolment = .declared,
        publishesDryRuns: Bool = true
    ) {
        self.clusterID = clusterID
        self.clusterDomain = clusterDomain
        self.trustDomain = trustDomain
        self.rootNamespace = rootNamespace
        self.enrolment = enrolment
        self.publishesDryRuns = publishesDryRuns
    }
}
