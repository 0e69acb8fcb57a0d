import Linux
import Testing

@testable import Options

private enum Format: String, CaseIterable, Sendable { case text, json }

private let node = Option<String>.required(
    "node", environment: ["WARREN_NODE", "NODE_NAME"], placeholder: "NAME", help: "The node's name.")
private let port = Option<UInt16>.defaulted(
    "port", to: 15_008, environment: ["PORT"], placeholder: "PORT", help: "Port.")
private let state = Option<String?>.optional("state", placeholder: "DIR", help: "State directory.")
private let tags = Option<[String]>.list("tag", environment: ["TAGS"], placeholder: "TAG", help: "Tags.")
private let quiet = Option<Bool>.flag("quiet", environment: ["QUIET"], help: "Say less.")
private let format = Option<Format>.choice(
    "format", default: .text, placeholder: "FORMAT", help: "Log format.")
private let file = Option<String?>.optional("options", placeholder: "FILE", help: "Options file.")

private let program = Command(
    "agent", summary: "Runs one node.",
    options: [
        node.declaration, port.declaration, state.declaration, tags.declaration, quiet.declaration,
        format.declaration, file.declaration,
    ], examples: [.init("One node.", "agent --node a")], fileOption: "options")

private let tool = Command(
    "tool", summary: "Does things.", options: [quiet.declaration],
    subcommands: [
        Command("up", summary: "Starts.", arguments: [.init("DIR", help: "Directory.")]),
        Command(
            "token", summary: "Tokens.",
            subcommands: [Command("create", summary: "Makes one.", options: [node.declaration])]),
    ])

struct OptionsTests {
    private func run(
        _ words: [String], environment: [String: String] = [:], files: [String: String] = [:],
        _ command: Command = program
    ) throws -> Invocation {
        let outcome = parse(words, environment: environment, files: files, command)
        guard case .run(let invocation) = outcome else {
            Issue.record("\(outcome)")
            throw SystemCallError(call: "parse", subject: "\(words)", number: 0)
        }
        return invocation
    }

    private func problems(
        _ words: [String], environment: [String: String] = [:], files: [String: String] = [:],
        _ command: Command = program
    ) -> [String] {
        guard case .invalid(let problems) = parse(words, environment: environment, files: files, command)
        else { return [] }
        return problems.map(\.description)
    }

    private func parse(
        _ words: [String], environment: [String: String], files: [String: String], _ command: Command
    ) -> CommandOutcome {
        command.parse(words, environment: { environment[$0] }) { path throws(SystemCallError) in
            guard let text = files[path] else {
                throw SystemCallError(call: "open", subject: path, number: 2)
            }
            return Array(text.utf8)
        }
    }

    @Test func `a letter means the same as the name it belongs to`() throws {
        let lettered = Option<String?>.optional("output", placeholder: "FORM", help: "Form.").short("o")
        let command = Command("tool", summary: "Does things.", options: [lettered.declaration])
        for words in [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"]] {
            #expect(try run(words, command)[lettered] == "json")
        }
        #expect(problems(["-o"], command) == ["--output: a value is missing: --output FORM"])
        #expect(problems(["-x"], command).first?.hasPrefix("-x: no such option") == true)
        #expect(command.completionScript(.bash).contains("-o|--output)"))
    }

    @Test func `values have their types and defaults`() throws {
        let given = try run([
            "--node", "a", "--port=80", "--tag", "x", "--tag=y", "--quiet", "--format", "json",
        ])
        #expect(given[node] == "a" && given[port] == 80 && given[state] == nil && given[quiet])
        #expect(given[tags] == ["x", "y"] && given[format] == .json)
        let bare = try run(["--node=a"])
        #expect(bare[port] == 15_008 && bare[tags] == [] && !bare[quiet] && bare[format] == .text)
        #expect(try run(["--node=a", "--quiet=false"], environment: ["QUIET": "1"])[quiet] == false)
    }

    @Test func `flags win over the environment, that over the file, that over defaults`() throws {
        let files = ["/f": "# comment\n\nnode = from-file\nport = 1\n state=/s \ntag = a, b\n"]
        let environment = ["NODE_NAME": "from-environment", "PORT": "2"]
        let all = try run(["--options", "/f", "--port", "3"], environment: environment, files: files)
        #expect(
            all[port] == 3 && all[node] == "from-environment" && all[state] == "/s"
                && all[tags] == ["a", "b"])
        #expect(all.source(of: port.declaration) == .flag)
        #expect(all.source(of: node.declaration) == .environment("NODE_NAME"))
        #expect(all.source(of: state.declaration) == .file("/f", line: 5))
        #expect(all.source(of: format.declaration) == .standard)
        #expect(try run([], environment: ["WARREN_NODE": "first", "NODE_NAME": "second"])[node] == "first")
        #expect(try run([], environment: ["WARREN_NODE": "", "NODE_NAME": "second"])[node] == "second")
    }

    @Test func `all problems are told together, each with its place`() {
        #expect(
            problems(
                ["--port", "99999", "--nod=a", "--quiet=maybe", "--format", "xml", "stray", "--state"],
                environment: ["TAGS": "a"]) == [
                    "--port: \"99999\" is not a number from 0 to 65535",
                    "--nod=a: no such option; did you mean --node?",
                    "--quiet: \"maybe\" is not true or false",
                    "--format: \"xml\" is not one of text, json",
                    "--state: a value is missing: --state DIR",
                    "--node: missing (or WARREN_NODE, NODE_NAME): The node's name.",
                    "stray: unexpected argument",
                ])
        #expect(problems(["--node", "a", "--node", "b"]) == ["--node: given twice"])
        #expect(problems(["--node="]) == ["--node: \"\" is not a text with at least one character"])
        #expect(problems(["-x", "--node", "a"]) == ["-x: no such option"])
        #expect(
            problems(["--node", "a", "--options", "/missing"]) == ["/missing: No such file or directory"])
        #expect(
            problems(
                ["--node", "a", "--options", "/f"], files: ["/f": "nonsense\nprt = 1\nport = x\nport = 2"])
                == [
                    "/f:1: not of the form name = value", "/f:2: no such option; did you mean port?",
                    "/f:3: \"x\" is not a number from 0 to 65535", "/f:4: port is set twice",
                ])
    }

    @Test func `subcommands nest and take the options of those around them`() throws {
        let up = try run(["up", "/dir", "--quiet"], tool)
        #expect(up.path == ["up"] && up.arguments == ["/dir"] && up[quiet])
        let create = try run(["--quiet", "token", "create", "--node", "a"], tool)
        #expect(create.path == ["token", "create"] && create[node] == "a")
        #expect(problems(["tokn"], tool) == ["tokn: no such command; did you mean token?"])
        #expect(problems(["token"], tool) == ["tool token: a command is missing; see --help"])
        #expect(problems(["up"], tool) == ["DIR: missing"])
        #expect(try run(["up", "--", "--quiet"], tool).arguments == ["--quiet"])
    }

    @Test func `help shows usage, defaults, variables and examples`() {
        guard case .answer(let text) = parse(["--help"], environment: [:], files: [:], program) else {
            Issue.record("no help")
            return
        }
        for part in [
            "Usage: agent [options]", "--node NAME", "WARREN_NODE", "default 15008", "agent --node a",
        ] {
            #expect(text.contains(part), "\(part)")
        }
        guard case .answer(let toolText) = parse([], environment: [:], files: [:], tool) else {
            Issue.record("no help without words")
            return
        }
        #expect(toolText.contains("Commands:\n  up"))
    }

    @Test func `the version is told, and only by the program itself`() {
        for (command, name) in [(program, "agent"), (tool, "tool")] {
            guard case .answer(let text) = parse(["--version"], environment: [:], files: [:], command) else {
                Issue.record("no version")
                continue
            }
            #expect(text == "\(name) \(Version.current)\n")
        }
        #expect(problems(["up", "/dir", "--version"], tool) == ["--version: no such option"])
    }

    @Test(arguments: [
        ("10s", 10_000_000_000), ("250ms", 250_000_000), ("1h30m", 5_400_000_000_000), ("0s", 0),
        ("1d", 86_400_000_000_000),
    ])
    func `durations have units`(text: String, nanoseconds: Int64) {
        #expect(Duration(option: text) == .nanoseconds(nanoseconds))
    }

    @Test(arguments: ["", "10", "s", "-1s", "1s1h", "1.5s", "9999999999999d", "1s ", "١s"])
    func `what is no duration is refused`(text: String) {
        #expect(Duration(option: text) == nil)
    }

    @Test(arguments: [Shell.bash, .zsh])
    func `the completion script is accepted by its shell and offers what fits`(
        shell: Shell
    ) throws {
        let script = tool.completionScript(.bash)
        #expect(tool.completionScript(shell).hasSuffix(script))
        var options = ChildProcess.Options()
        options.output = .piped
        let test =
            script + "\nCOMP_WORDS=(tool token create --n); COMP_CWORD=3; _tool; echo \"${COMPREPLY[*]}\""
        var child = try ChildProcess.start("bash", ["-c", test], options)
        #expect(try child.wait() == .exited(0))
        guard let output = child.standardOutput.take() else { return }
        let text = unsafe withUnsafeTemporaryAllocation(byteCount: 1_024, alignment: 1) { buffer in
            guard case .bytes(let count) = unsafe output.read(into: buffer) else { return "" }
            return unsafe String(decoding: buffer[..<count], as: UTF8.self)
        }
        #expect(text == "--node\n")
    }

    @Test func `the fish script names every command and option`() {
        let script = tool.completionScript(.fish)
        for part in ["-a up", "-a create", "-l node", "-l quiet"] {
            #expect(script.contains(part), "\(part)")
        }
    }
}
