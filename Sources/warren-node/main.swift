import Daemon
import Glibc
import Linux
import NodeAgent
import Options

let invocation = NodeOptions.command.parseOrExit(Array(CommandLine.arguments.dropFirst()))
do throws(InvalidOptions) {
    exit(NodeProgram.run(try NodeConfiguration(invocation)))
} catch {
    for problem in error.problems { try? OutputFile.standardError().write("warren-node: \(problem)\n") }
    exit(2)
}
