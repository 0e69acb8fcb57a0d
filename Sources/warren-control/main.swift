import ControlPlane
import Glibc
import Options

exit(ControlProgram.run(ControlOptions.command.parseOrExit(Array(CommandLine.arguments.dropFirst()))))
