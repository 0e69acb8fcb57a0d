import Commands
import Glibc

exit(WarrenCommand.run(Array(CommandLine.arguments.dropFirst())))
