import Documents
import Linux

/// Why a command could not do what was asked, with what to do about it.
public enum CommandError: Error, CustomStringConvertible {
    /// The command line, or what it names, is wrong.
    case usage(String)
    /// The configuration directory cannot be used.
    case configuration([Problem])
    /// Nobody answers at a daemon's admin socket.
    case unreachable(socket: String, SystemCallError)
    /// A daemon answered with something else than what was asked for.
    case refused(String)
    /// The answer is not to be understood: another version's, perhaps.
    case malformed(socket: String, String)
    case system(SystemCallError)
    case failed(String)
    /// A daemon did not accept its options or its configuration, and has said why.
    case configurationRefused(String)

    /// 1: failed while running; 2: bad usage or bad configuration.
    public var exitStatus: Int32 {
        switch self {
        case .usage, .configuration, .configurationRefused: 2
        default: 1
        }
    }

    public var description: String {
        switch self {
        case .usage(let text), .refused(let text), .failed(let text): text
        case .configuration(let problems): problems.map(\.description).joined(separator: "\n")
        case .unreachable(let socket, let error):
            error.isMissing || error.isRefused
                ? "no daemon answers at \(socket). Is the mesh up? `warren up -f DIR` starts one; --run-directory names another place"
                : "\(error)" + (error.isDenied ? ". The admin sockets are root's: try as root" : "")
        case .malformed(let socket, let reason): "\(socket) gave an answer that makes no sense: \(reason)"
        case .system(let error): "\(error)"
        case .configurationRefused(let name): "\(name) refused what it was given; see its lines above"
        }
    }
}
