"""Options that say what peers have to show, read alike by every command that talks to workers."""

from __future__ import annotations

import argparse
from pathlib import Path

from hwrun.errors import BadUsageError
from hwrun.wire.admission import Credentials
from hwrun.wire.authentication import read_token
from hwrun.wire.tls import TlsFiles, load_tls


def add_credential_options(parser: argparse.ArgumentParser) -> None:
    """`--token-file`, and `--tls-cert`, `--tls-key` and `--tls-ca`, which go together."""
    group = parser.add_argument_group("who may talk (docs/security.md)")
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the shared secret that every peer has to prove; readable by you alone",
    )
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="TLS with this certificate, which names this host")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, unencrypted and readable by you alone")
    group.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="certificate of the authority that peers' must be of"
    )


def credentials_of(arguments: argparse.Namespace) -> Credentials:
    """The token and TLS identity in the files that were named.

    Raises
    ------
    BadUsageError : a file that cannot be used, or some of the TLS options without the others.
    """
    token = b"" if arguments.token_file is None else read_token(arguments.token_file)
    files = {"--tls-cert": arguments.tls_cert, "--tls-key": arguments.tls_key, "--tls-ca": arguments.tls_ca}
    missing = [option for option, path in files.items() if path is None]
    if len(missing) == len(files):
        return Credentials(token)
    if missing:
        raise BadUsageError(f"{', '.join(missing)}: is missing, expected all of {', '.join(files)} or none")
    identity = TlsFiles(arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    return Credentials(token, load_tls(identity))
