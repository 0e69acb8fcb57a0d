import Daemon
import Glibc
import Linux
import Options
import Waypoint

let invocation = WaypointOptions.command.parseOrExit(Array(CommandLine.arguments.dropFirst()))
do throws(InvalidOptions) {
    exit(WaypointProgram.run(try WaypointConfiguration(invocation)))
} catch {
    for problem in error.problems { try? OutputFile.standardError().write("warren-waypoint: \(problem)\n") }
    exit(2)
}
