"""``c2d login | logout | whoami``: sign in at a gateway."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import TYPE_CHECKING

from compute_to_data.cli.command import Call, Commands

if TYPE_CHECKING:
    from compute_to_data.client.signing_in.login import Login
    from compute_to_data.client.this_computer.settings import Auth


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "login",
        _login,
        "sign in at a gateway, and work in its zone from now on",
        example="login https://c2d.example.org --user alice",
        arguments=_arguments,
    )
    commands.add("logout", _logout, "end your login at the gateway", example="logout")
    commands.add("whoami", _whoami, "show who you are in the zone in use", example="whoami")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        default="",
        help="the gateway's address; also the one that c2d serve prints (default: the one of auth in your settings)",
    )
    parser.add_argument(
        "--user", default="", help="your user name in the zone, for a password (default: your login name)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address where you sign in")
    parser.set_defaults(needs_no_settings=True)


def _login(call: Call) -> int:
    from compute_to_data.client.signing_in import login
    from compute_to_data.errors import ConfigurationError

    options, auth = call.options, _auth(call)
    if not options.url and auth is None:
        remedy = "Name the gateway: c2d login https://c2d.example.org"
        raise ConfigurationError("c2d login", "no address is given, and your settings have no auth", remedy)
    url, one_time = login.address(options.url or str(auth and auth.gateway))

    def signed_in(authorization: str) -> login.Login:
        return login.sign_in(url, authorization, options.config_file, options.session_file)

    if one_time:
        found = signed_in(f"Bearer {one_time}")
    elif auth is not None and not options.user and url == login.address(auth.gateway)[0]:
        found = _with_provider(call, auth, signed_in)
    else:
        found = signed_in(_password(url, options.user))
    call.out.note(f"signed in as {found.user} until {found.expires}")
    call.out.result(found.document(), found.user)
    return 0


def _auth(call: Call) -> Auth | None:
    """The identity provider of the person's settings. Settings that are wrong are replaced by a login."""
    from compute_to_data.client.this_computer import settings as settings_module
    from compute_to_data.errors import ConfigurationError

    try:
        return settings_module.load(call.options.config_file).auth
    except ConfigurationError:
        if not call.options.url:
            raise
        return None


def _with_provider(call: Call, auth: Auth, signed_in: Callable[[str], Login]) -> Login:
    """Sign in with the person's browser."""
    import threading
    import webbrowser

    from compute_to_data.client.signing_in import browser_login, login

    login.need_address(auth.gateway)

    def show(address: str) -> None:
        call.out.note(f"Sign in with your browser: {address}")
        if not call.options.no_browser:
            # Some browsers run in the terminal, until the person leaves them.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    found: list[Login] = []
    browser_login.sign_in(auth, show, lambda token: found.append(signed_in(f"Bearer {token}")))
    return found[0]


def _password(url: str, user: str) -> str:
    """The password from the first line of a pipe; at a terminal, what the person types, without showing it."""
    import getpass

    from compute_to_data.client.signing_in import login

    login.need_address(url)  # before the person types a password
    name = user or getpass.getuser()
    if sys.stdin.isatty():
        return login.with_password(name, getpass.getpass(f"Password of {name} (not shown): ", sys.stderr))
    return login.with_password(name, sys.stdin.readline().rstrip("\n"))


def _logout(call: Call) -> int:
    from compute_to_data.client.signing_in import login

    was_good = login.sign_out(call.options.config_file, call.options.session_file)
    call.out.note("signed out" if was_good else "you were not signed in")
    return 0


def _whoami(call: Call) -> int:
    from compute_to_data.client.signing_in import login
    from compute_to_data.client.this_computer import settings as settings_module

    session = call.session
    zone = session.settings.zone
    expires = ""
    if zone.kind == "gateway":
        expires = login.expiry(zone, settings_module.load_session(call.options.session_file))
    found = {
        "user": str(session.user),
        "zone": session.zone,
        "home": session.home,
        "project": session.named_project,
        "gateway": str(zone.settings.get("url", "")),
        "expires": expires,
    }
    call.out.facts(found, [(name, value) for name, value in found.items() if value])
    return 0
