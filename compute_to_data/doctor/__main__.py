"""``python3 -m compute_to_data.doctor``: run the checks and print the findings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from compute_to_data import site_file
from compute_to_data.doctor.examination import examine
from compute_to_data.doctor.installation import Server
from compute_to_data.doctor.report import UNKNOWN, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks. The exit status is that of :func:`report`, and 2 for wrong usage."""
    description = "Check the installation of compute_to_data on an iRODS server, and say how to repair it."
    parser = argparse.ArgumentParser(prog="compute_to_data.doctor", description=description)
    configuration = site_file.path()
    parser.add_argument(
        "--configuration", default=configuration, help=f"the site configuration (default: {configuration})"
    )
    parser.add_argument(
        "--irods-configuration",
        default=Server.irods_configuration,
        help="the server's configuration folder (default: %(default)s)",
    )
    parser.add_argument("--prefix", default=Server.prefix, help="where it is installed (default: %(default)s)")
    parser.add_argument("--python", default=Server.python, help="the Python of iRODS agents (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    server = Server(irods_configuration=options.irods_configuration, prefix=options.prefix, python=options.python)
    try:
        return report(examine(server, options.configuration), as_json=options.json)
    except OSError as error:  # of the output: the checks' own errors are findings
        print(f"{parser.prog}: standard output: {error.strerror}.", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        return UNKNOWN


if __name__ == "__main__":
    sys.exit(main())
