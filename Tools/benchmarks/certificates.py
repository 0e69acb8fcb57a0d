"""A CA and certificates of a mesh (P-256, SPIFFE) for the rivals, made by the openssl command."""

import subprocess

CLIENT, SERVER = (f"spiffe://cluster.local/ns/bench/sa/{name}" for name in ("client", "server"))


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Certificates:
    """`root` and, for each of "client" and "server", NAME-key.pem and NAME.pem in one directory."""

    def __init__(self, directory):
        self.directory, self.root = directory, directory / "root.pem"
        directory.mkdir()
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        openssl("req", "-x509", *key, "-subj", "/O=cluster.local", "-keyout", directory / "root-key.pem",
                "-out", self.root)
        for name, uri in (("client", CLIENT), ("server", SERVER)):
            openssl("req", "-x509", *key, "-subj", "/O=bench", "-addext", f"subjectAltName=URI:{uri}",
                    "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature",
                    "-addext", "extendedKeyUsage=serverAuth,clientAuth", "-CA", self.root,
                    "-CAkey", directory / "root-key.pem", "-keyout", self.key(name), "-out", self.chain(name))

    def key(self, name):
        return self.directory / f"{name}-key.pem"

    def chain(self, name):
        return self.directory / f"{name}.pem"

    def both(self, name):
        """Chain and key in one file."""
        file = self.directory / f"{name}-both.pem"
        file.write_bytes(self.chain(name).read_bytes() + self.key(name).read_bytes())
        return file
