"""``c2d serve`` and ``c2d zone password``: the gateway, and passwords for an embedded zone."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from compute_to_data.cli.command import Call, Commands


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "serve",
        _serve,
        "serve a zone over HTTP until interrupted; prints the address",
        example="serve --port 8427",
        arguments=_serve_arguments,
    )


def _serve_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--configuration",
        default="",
        metavar="FILE",
        help="the gateway's configuration (default: serve your embedded zone to this computer)",
    )
    parser.add_argument("--address", default="", help="the address to listen on, overriding the configuration")
    parser.add_argument(
        "--port", type=int, default=None, help="the port, overriding the configuration; 0: any free one"
    )
    parser.set_defaults(needs_no_settings=True)


def _serve(call: Call) -> int:
    from dataclasses import replace

    from compute_to_data.client.this_computer import settings as settings_module
    from compute_to_data.errors import ConfigurationError

    options = call.options
    try:
        from compute_to_data.gateway import serving
        from compute_to_data.gateway import settings as gateway_settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("compute_to_data"):
            raise
        remedy = "Install it from a checkout: pip install '.[gateway]'"
        raise ConfigurationError("c2d serve", f"needs the Python package {error.name}", remedy) from error

    if options.configuration:
        chosen = gateway_settings.load(options.configuration)
    else:
        chosen = gateway_settings.of_person(settings_module.load(options.config_file))
    listen = chosen.listen
    listen = replace(listen, address=options.address or listen.address)
    listen = listen if options.port is None else replace(listen, port=options.port)
    serving.log_to_stderr(bool(options.debug))

    def say(address: str) -> None:
        call.out.result({"address": address}, address)

    serving.serve(replace(chosen, listen=listen), say)
    return 0


def password_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``c2d zone password``."""
    parser.add_argument("user", metavar="USER", help="a user of your embedded zone")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--new", action="store_true", help="make this user first")
    what.add_argument("--remove", action="store_true", help="take the password away")


def set_password(call: Call) -> int:
    """``c2d zone password``: only a user who may write to the zone's directory can do this."""
    from compute_to_data.client.this_computer import laptop
    from compute_to_data.client.this_computer import settings as settings_module

    zone = settings_module.load(call.options.config_file).zone
    if call.options.new:
        user, password = laptop.new_user(zone, call.options.user), _typed(call.options.user)
        laptop.add_user(zone, user, password)
        call.out.note(f"{user} is a user now, and can sign in with this password")
        return 0
    user = laptop.known_user(zone, call.options.user)
    if call.options.remove:
        had = laptop.set_password(zone, user, None)
        call.out.note(f"{user} has no password {'any more' if had else 'anyway'}")
    else:
        laptop.set_password(zone, user, _typed(str(user)))
        call.out.note(f"{user} can sign in with this password")
    return 0


def _typed(user: str) -> str:
    """The password from the first line of a pipe; at a terminal, what the person types twice, without showing it."""
    from getpass import getpass

    from compute_to_data.errors import InvalidRequest

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass(f"Password of {user} (not shown): ", sys.stderr)
    if getpass("Repeat it: ", sys.stderr) != password:
        raise InvalidRequest(f"password of {user}", "the two differ", "Try again")
    return password
