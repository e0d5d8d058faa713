"""The Debian package on Ubuntu: built on a release, installed with its own dependencies into a bare one, used, removed.

    python3 tests/lab/ubuntu.py [RELEASE...]      as root, with debootstrap; by default jammy (22.04) and noble (24.04)

C2D_LAB names the folder of the roots (default: build/lab in the checkout; 1 GB a release). C2D_UBUNTU_MIRROR names a
mirror of Ubuntu's archive. Where Debian's package ubuntu-keyring is not installed, the archive's signature is not
checked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = Path(os.environ.get("C2D_LAB", CHECKOUT / "build" / "lab"))
MIRROR = os.environ.get("C2D_UBUNTU_MIRROR", "http://archive.ubuntu.com/ubuntu")
KEYRING = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
SCRIPT = "/usr/share/debootstrap/scripts/gutsy"
"""debootstrap's steps for each release of Ubuntu since 2007. Debian 12 has no name for those after its own."""
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
RELEASES = ("jammy", "noble")

_TASK = """
set -e
export HOME=$(mktemp -d)
cd "$HOME"
c2d zone create zone --user alice
mkdir measurements
seq 512 > measurements/input.dat
c2d run host -i measurements -- sh -c 'tail -n 1 /inputs/input.dat | tee last.txt'
"""


class Root:
    """A directory tree with a release in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str, account: str = "root") -> str:
        """Run a command in it, as an account of it; what it printed on standard output."""
        path = "/opt/compute-to-data/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        environment["PIP_CERT"] = f"/{CERTIFICATES}"
        words = ["chroot", f"--userspec={account}", str(self.path), *command]
        done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
        if done.returncode:
            sys.exit(f"{self.path.name}: {' '.join(command)} failed: {done.stdout.decode(errors='replace')}")
        return done.stdout.decode()

    def files(self) -> set[str]:
        """The files of the product, or of what it stands on."""
        places = ("etc/irods", "etc/compute_to_data", "opt", "var/lib/irods", "etc/systemd", "usr/lib/systemd/system")
        found = (one for place in places for one in (self.path / place).rglob("*"))
        return {f"/{one.relative_to(self.path)}" for one in found if not one.is_dir()}


@contextmanager
def fresh(release: str, name: str) -> Iterator[Root]:
    """An empty root of a release, with /proc, and with what this host trusts: a proxy may be needed to reach PyPI."""
    base, path = LAB / f"ubuntu-{release}", LAB / f"ubuntu-{release}-{name}"
    if not base.exists():
        made = base.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        LAB.mkdir(parents=True, exist_ok=True)
        trust = [f"--keyring={KEYRING}"] if KEYRING.exists() else ["--no-check-gpg"]
        words = ["debootstrap", *trust, "--variant=minbase", "--include=ca-certificates", "--components=main,universe"]
        subprocess.run([*words, release, str(made), MIRROR, SCRIPT], check=True, stdin=subprocess.DEVNULL)
        made.rename(base)
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["cp", "--archive", str(base), str(path)], check=True)
    for file in (CERTIFICATES, "etc/resolv.conf"):
        shutil.copy(f"/{file}", path / file)
    subprocess.run(["mount", "-t", "proc", "proc", str(path / "proc")], check=True)
    try:
        yield Root(path)
    finally:
        subprocess.run(["umount", str(path / "proc")], check=True)
        shutil.rmtree(path)


def built(release: str) -> Path:
    """The package, built on the release by an ordinary account."""
    with fresh(release, "build") as root:
        root.run("apt-get", "-q", "install", "-y", "--no-install-recommends", "python3-venv")
        root.run("useradd", "--create-home", "builder")
        listed = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
        there = b"\0".join(name for name in names if name and (CHECKOUT / os.fsdecode(name)).exists())
        copy = ["cp", "--parents", "--preserve=mode", "--target-directory", str(root.path / "home/builder")]
        subprocess.run(["xargs", "-0", *copy], check=True, input=there, cwd=CHECKOUT)
        root.run("chown", "-R", "builder:", "/home/builder")
        root.run("/home/builder/packaging/wheels", "/home/builder/wheels", account="builder:builder")
        built = root.run("/home/builder/packaging/debian/build", "--output", "/home/builder").strip()
        return Path(shutil.copy(root.path / built.lstrip("/"), LAB / f"{release}.deb"))


def tried(release: str, package: Path) -> str:
    """Install the package, run a task, upgrade it in place, remove and purge it; the Python and the task's output."""
    with fresh(release, "installed") as root:
        for file, text in (("etc/irods/server_config.json", "{}"), ("var/lib/irods/version.json", "{}")):
            (root.path / file).parent.mkdir(parents=True)
            (root.path / file).write_text(text)
        root.run("useradd", "--home-dir=/var/lib/irods", "irods")
        before = root.files()
        shutil.copy(package, root.path / "tmp/package.deb")
        install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", "/tmp/package.deb"]
        root.run(*install)
        said = root.run("sh", "-c", _TASK, account="irods:irods")
        if "512" not in said.split():
            sys.exit(f"{release}: the task printed {said!r}")
        root.run("/opt/compute-to-data/gateway-venv/bin/python", "-Ic", "import compute_to_data.gateway.serving")
        root.run(*install[:2], "--reinstall", *install[2:])
        if changed := root.run("dpkg", "--verify", "compute-to-data"):
            sys.exit(f"{release}: differs from the package: {changed}")
        python = root.run("/opt/compute-to-data/venv/bin/python", "--version").strip()
        root.run("apt-get", "-q", "purge", "-y", "compute-to-data")
        if left := root.files() - before:
            sys.exit(f"{release}: left after purge: {sorted(left)}")
        return python


def main(releases: list[str]) -> None:
    """All releases, one after the other."""
    for release in releases or RELEASES:
        print(f"{release}: installed, used, upgraded and purged, with {tried(release, built(release))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
