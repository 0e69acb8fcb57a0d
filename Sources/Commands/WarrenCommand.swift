import Documents
import Glibc
import Linux
import Options

/// The program `warren`: what it takes, and which command does it.
public enum WarrenCommand {
    private static let runDirectory = Option<String>.defaulted(
        "run-directory", to: "/run/warren", environment: ["WARREN_RUN_DIRECTORY"], placeholder: "DIR",
        help: "where the daemons' admin sockets are")
    private static let output = Option<OutputForm>.choice(
        "output", default: .table, placeholder: "FORM", help: "how the answer is written"
    ).short("o")

    private static let directory = Option<String>.required(
        "file", placeholder: "DIR", help: "the directory of manifests"
    ).short("f")
    private static let nodes = Option<[String]>.list(
        "node", placeholder: "NAME", help: "run this node alone; all of the directory's when none is named")
    private static let state = Option<String?>.optional(
        "state", environment: ["WARREN_STATE"], placeholder: "DIR",
        help: "keep the CA, tokens and node certificates here; else they go when the mesh goes")
    private static let port = Option<UInt16>.defaulted(
        "port", to: 15012, placeholder: "PORT",
        help: "where nodes reach the control component, on the loopback of their own namespaces")
    private static let logLevel = Option<String?>.optional(
        "log-level", environment: ["WARREN_LOG_LEVEL"], placeholder: "LEVEL",
        help: "the daemons' log level: error, warn, info, debug or trace, or scope=level,...")
    private static let logFormat = Option<String?>.optional(
        "log-format", environment: ["WARREN_LOG_FORMAT"], placeholder: "text|json",
        help: "the form of the daemons' logs"
    )
    private static let tokenNode = Option<String?>.optional(
        "node", placeholder: "NAME", help: "the node that the token lets in")
    private static let tokenWaypoint = Option<String?>.optional(
        "waypoint", placeholder: "NAMESPACE/NAME", help: "the waypoint that the token lets in")
    private static let life = Option<Duration>.defaulted(
        "ttl", to: .seconds(3_600), placeholder: "SPAN", help: "how long it may be used: 15m, 1h, 7d")

    private static let up = Command(
        "up",
        summary: "Run a whole mesh in the foreground, from a directory of manifests, until interrupted.",
        options: [
            directory.declaration, nodes.declaration, state.declaration, runDirectory.declaration,
            port.declaration,
            logLevel.declaration, logFormat.declaration,
        ],
        examples: [
            Command.Example("both nodes of the example", "warren up -f Deploy/examples/two-nodes"),
            Command.Example(
                "one node, with keys that stay", "warren up -f mesh --node node-a --state /var/lib/warren"),
            Command.Example("the nodes' access log alone", "warren up -f mesh 2>/dev/null"),
        ])
    private static let status = Command(
        "status", summary: "Show nodes, waypoints, workloads, certificates, tunnels and policies.",
        options: [output.declaration, runDirectory.declaration],
        arguments: [
            Command.Argument(
                "SECTION",
                help: "one of \(MeshStatus.Section.allCases.map(\.rawValue).joined(separator: ", "))",
                isRequired: false)
        ],
        examples: [
            Command.Example("everything", "warren status"),
            Command.Example("certificates, and how long they still last", "warren status certificates"),
            Command.Example("for a script", "warren status -o json"),
        ])
    private static let explain = Command(
        "explain", summary: "Say what would become of a connection, and every reason for it.",
        options: [output.declaration, runDirectory.declaration],
        arguments: [
            Command.Argument("POD", help: "where it comes from: namespace/name"),
            Command.Argument("ADDRESS:PORT", help: "where it goes to; an IPv6 address in brackets"),
        ],
        examples: [
            Command.Example("may mallory reach echo?", "warren explain shop/mallory 10.97.2.11:7777"),
            Command.Example("the same by IPv6", "warren explain shop/mallory [fd97:0:2::11]:7777"),
        ])
    private static let config = Command(
        "config", summary: "Show what a waypoint runs on.",
        subcommands: [
            configPart(
                "routes", "Show the routes of the services that a waypoint stands before.",
                Command.Example(
                    "where requests go, and which rule says so", "warren config routes shop/waypoint"),
                Command.Example("every field of every route", "warren config routes shop/waypoint -o yaml")),
            configPart(
                "clusters", "Show how a waypoint treats the services that its routes lead to.",
                Command.Example("balancing, limits and their rules", "warren config clusters shop/waypoint"),
                Command.Example("for a script", "warren config clusters shop/waypoint -o json")),
            configPart(
                "endpoints", "Show where a waypoint sends what is for a service or a subset.",
                Command.Example("is the subset empty?", "warren config endpoints shop/waypoint"),
                Command.Example(
                    "as one pod of the waypoint sees it", "warren config endpoints shop/waypoint-1")),
        ])

    private static func configPart(_ name: String, _ summary: String, _ examples: Command.Example...)
        -> Command
    {
        Command(
            name, summary: summary, options: [output.declaration, runDirectory.declaration],
            arguments: [
                Command.Argument("NAME", help: "the waypoint or its pod, on this machine: namespace/name")
            ],
            examples: examples)
    }

    private static let token = Command(
        "token", summary: "Make join tokens for nodes and waypoints on other machines.",
        subcommands: [
            Command(
                "create",
                summary: "Make a token that lets one node or waypoint join, and print it. It is a secret.",
                options: [
                    tokenNode.declaration, tokenWaypoint.declaration, life.declaration,
                    runDirectory.declaration,
                ],
                examples: [
                    Command.Example(
                        "for node-b, within a quarter of an hour",
                        "warren token create --node node-b --ttl 15m > token"),
                    Command.Example(
                        "for a waypoint", "warren token create --waypoint shop/waypoint > token"),
                ])
        ])
    private static let completion = Command(
        "completion", summary: "Print a script that completes this program's commands.",
        arguments: [Command.Argument("SHELL", help: "bash, zsh or fish")],
        examples: [
            Command.Example("for this shell", "source <(warren completion bash)"),
            Command.Example(
                "for fish, for good", "warren completion fish > ~/.config/fish/completions/warren.fish"),
        ])

    /// The whole command line.
    static let command = Command(
        "warren",
        summary: """
            warren: an ambient service mesh for Linux.

            Pods (network namespaces, containers, services) of the nodes join by a label; their TCP connections are then
            encrypted, mutually authenticated and authorized, without a change to them.
            """,
        subcommands: [
            up, status, config, explain, token, completion, Command("version", summary: "Print the version."),
        ],
        examples: [
            Command.Example("start a mesh", "warren up -f Deploy/examples/two-nodes"),
            Command.Example("look at it", "warren status"),
            Command.Example("ask why", "warren explain shop/mallory 10.97.2.11:7777"),
        ])

    /// Does what the command line asks for.
    ///
    /// - Returns: the exit status: 0 done, 1 failed while running, 2 bad usage or bad configuration.
    public static func run(_ words: [String]) -> Int32 {
        ignoreSIGPIPE()
        let invocation = command.parseOrExit(words)
        do throws(CommandError) {
            return try run(invocation)
        } catch {
            try? OutputFile.standardError().write("warren: \(error)\n")
            return error.exitStatus
        }
    }

    private static func run(_ invocation: Invocation) throws(CommandError) -> Int32 {
        switch invocation.path {
        case ["up"]:
            return try UpCommand(upOptions(invocation)).run()
        case ["status"]:
            let section = try choice(invocation.arguments.first, of: MeshStatus.Section.self)
            let report = try MeshStatus(runDirectory: invocation[runDirectory])
            return show(report.text(invocation[output], section, now: .now()))
        case ["config", "routes"], ["config", "clusters"], ["config", "endpoints"]:
            guard let part = try choice(invocation.path.last, of: ConfigCommand.Part.self) else { return 2 }
            let command = try ConfigCommand(
                part, of: invocation.arguments[0], runDirectory: invocation[runDirectory])
            return show(command.text(invocation[output]))
        case ["explain"]:
            let report = try ExplainCommand(
                runDirectory: invocation[runDirectory], source: invocation.arguments[0],
                destination: invocation.arguments[1])
            return show(report.text(invocation[output]))
        case ["token", "create"]:
            let token = try TokenCommand.create(
                runDirectory: invocation[runDirectory], node: invocation[tokenNode],
                waypoint: invocation[tokenWaypoint], life: invocation[life])
            return show(token + "\n")
        case ["completion"]:
            guard let shell = try choice(invocation.arguments.first, of: Shell.self) else { return 2 }
            return show(command.completionScript(shell))
        default:
            return show("warren \(Version.current)\n")
        }
    }

    private static func upOptions(_ invocation: Invocation) -> UpOptions {
        var options = UpOptions(directory: invocation[directory])
        options.nodes = invocation[nodes]
        options.state = invocation[state]
        options.runDirectory = invocation[runDirectory]
        options.port = invocation[port]
        options.logLevel = invocation[logLevel]
        options.logFormat = invocation[logFormat]
        return options
    }

    private static func choice<Choice: CaseIterable & RawRepresentable>(
        _ text: String?, of type: Choice.Type
    ) throws(CommandError) -> Choice? where Choice.RawValue == String {
        guard let text else { return nil }
        guard let choice = Choice(rawValue: text) else {
            let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw .usage("\(quoted(text)) is none of \(names)")
        }
        return choice
    }

    /// Prints an answer. A reader that has gone (`| head`) is no failure.
    private static func show(_ text: String) -> Int32 {
        try? OutputFile.standardOutput().write(text)
        return 0
    }
}
