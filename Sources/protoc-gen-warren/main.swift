// A plugin of protoc: a CodeGeneratorRequest on standard input, a CodeGeneratorResponse on standard output.
// Run by Tools/generate-protos.
import Glibc
import Protobuf

func readStandardInput() -> [UInt8] {
    var input: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let byteCount = unsafe read(STDIN_FILENO, &chunk, chunk.count)
        guard byteCount > 0 else { return input }
        input += chunk[..<byteCount]
    }
}

func writeStandardOutput(_ output: [UInt8]) {
    var rest = output[...]
    while !rest.isEmpty {
        let byteCount = unsafe rest.withUnsafeBytes { unsafe write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        guard byteCount > 0 else { exit(1) }
        rest = rest.dropFirst(byteCount)
    }
}

func respond(to request: CodeGeneratorRequest) -> CodeGeneratorResponse {
    var response = CodeGeneratorResponse()
    // FEATURE_PROTO3_OPTIONAL
    response.supportedFeatures = 1
    let types = TypeTable(request.protoFile)
    do throws(GeneratorError) {
        for file in request.protoFile where request.fileToGenerate.contains(file.name) {
            let generator = FileGenerator(file, types: types)
            var output = CodeGeneratorResponse.File()
            output.name = generator.outputName
            output.content = try generator.generate()
            response.file.append(output)
        }
    } catch {
        response.error = error.message
    }
    return response
}

var response = CodeGeneratorResponse()
do throws(BinaryDecodingError) {
    response = respond(to: try CodeGeneratorRequest(serializedBytes: readStandardInput()))
} catch {
    response.error = "protoc-gen-warren: the request cannot be read: \(error)"
}
writeStandardOutput(response.serializedBytes())
