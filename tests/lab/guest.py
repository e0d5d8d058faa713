"""A Debian guest with systemd and cgroup v2, in which the package is installed and tests run.

    python3 tests/lab/guest.py build              make the guest's disk, as root; with debootstrap, from no image
    python3 tests/lab/guest.py run ARGUMENT...    boot it, install this checkout there, run pytest there, power it off
    python3 tests/lab/guest.py boot | install | test ARGUMENT... | ssh ACCOUNT COMMAND | off      the single steps

C2D_LAB names the folder of the guest (default: build/lab in the checkout; it takes 6 GB), C2D_LAB_PORT the port of this
host at which the guest's ssh answers, C2D_LAB_PROCESSORS its number of processors (default: 2). QEMU emulates the
processor, which works anywhere and takes ten times as long. C2D_LAB_ACCELERATOR=kvm uses the host's own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = Path(os.environ.get("C2D_LAB", CHECKOUT / "build" / "lab"))
PORT = os.environ.get("C2D_LAB_PORT", "2222")
ACCELERATOR = os.environ.get("C2D_LAB_ACCELERATOR", "tcg,thread=multi,tb-size=1024")
PROCESSORS = os.environ.get("C2D_LAB_PROCESSORS", "2")
ROOT, KEY, DISK, WHEELS, PACKAGE = LAB / "root", LAB / "key", LAB / "disk.img", LAB / "wheels", LAB / "package"
COPY = LAB / "checkout"
KERNEL, INITRD, CONSOLE, PROCESS = LAB / "vmlinuz", LAB / "initrd", LAB / "console.log", LAB / "qemu.pid"

PACKAGES = """
systemd-sysv dbus libpam-systemd openssh-server udev kmod iproute2 procps ca-certificates linux-image-amd64
initramfs-tools python3 python3-venv make git docker.io apparmor iptables uidmap xfsprogs e2fsprogs
podman crun tini dbus-user-session
"""
IMAGE = "compute-to-data/base:bookworm"
"""The tests' image, which tests/support/docker-engine.sh makes on this host."""
SAVED = "/opt/image.tar"
"""The image in the guest, for its Docker and for the Podman of the service account."""
ENVIRONMENT = "/opt/c2d-tests"
"""The Python in the guest that runs the tests."""
SOURCES = "/opt/c2d"
WHEELS_THERE = "/opt/wheels"
"""In the guest: what the suites of packaging install. The guest may reach no package index."""
BOOT_SECONDS = 600
PATIENCE = "600"
PASSED_ON = {"C2D_LAB_SELECTION", "C2D_BENCH_ROUNDS", "C2D_BENCH_TASKS"}
"""Variables of this host that the tests in the guest get."""

_COMPILED = [f"tests/{name}" for name in ("lab", "engines", "adversarial", "recovery")]
_FILES = {
    "etc/hostname": "lab\n",
    "etc/hosts": "127.0.0.1 localhost lab\n",
    "etc/fstab": "/dev/vda / ext4 errors=remount-ro,noatime 0 1\n",
    "etc/systemd/network/20-wired.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
    # As docs/security.md says. On a machine this slow, a test that floods Docker's log would keep it busy for minutes.
    "etc/systemd/system/docker.service.d/log.conf": "[Service]\nLogRateLimitIntervalSec=60\nLogRateLimitBurst=200\n",
    # The account and the files of an iRODS server that our installer looks for. There is no server.
    "etc/irods/server_config.json": '{"plugin_configuration": {"rule_engines": []}}\n',
    "var/lib/irods/version.json": '{"irods_version": "5.0.2"}\n',
}


def build() -> None:
    """Make the disk."""
    LAB.mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(KEY))
    shutil.rmtree(ROOT, ignore_errors=True)
    _run("debootstrap", "--variant=minbase", "bookworm", str(ROOT))
    _install_packages()
    for name, text in _FILES.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text)
    _in_root("useradd", "--system", "--home-dir", "/var/lib/irods", "--shell", "/bin/bash", "irods")
    _in_root("chown", "-R", "irods:", "/var/lib/irods", "/etc/irods")
    (ROOT / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(f"{KEY}.pub", ROOT / "root/.ssh/authorized_keys")
    _in_root("systemctl", "enable", "systemd-networkd", "ssh", "docker")
    _in_root("systemctl", "disable", "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer")
    _install_tools()
    _run("bash", str(CHECKOUT / "tests/support/docker-engine.sh"))
    saved = ROOT / SAVED.lstrip("/")
    _run("docker", "save", "--output", str(saved), IMAGE)
    saved.chmod(0o644)
    for name, kept in (("vmlinuz", KERNEL), ("initrd.img", INITRD)):
        shutil.copy(ROOT / os.readlink(ROOT / name), kept)
    DISK.unlink(missing_ok=True)
    _run("truncate", "--size=10G", str(DISK))
    _run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", str(ROOT), str(DISK))
    shutil.rmtree(ROOT)


def _install_packages() -> None:
    """With this host's sources of packages, and what it trusts: a mirror or a proxy may be needed to reach any."""
    certificates = ROOT / "etc/ssl/certs/ca-certificates.crt"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)
    shutil.copytree("/etc/apt", ROOT / "etc/apt", dirs_exist_ok=True, symlinks=True)
    shutil.copy("/etc/resolv.conf", ROOT / "etc/resolv.conf")
    no_services = ROOT / "usr/sbin/policy-rc.d"
    no_services.write_text("#!/bin/sh\nexit 101\n")
    no_services.chmod(0o755)
    _in_root("apt-get", "-q", "update")
    _in_root("apt-get", "-q", "install", "-y", "--no-install-recommends", *PACKAGES.split())
    _in_root("apt-get", "clean")
    no_services.unlink()
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)


def _install_tools() -> None:
    """The tests' Python and packages. This host's pip downloads them, which knows where from, for Debian's Python."""
    downloads, pip = ROOT / "opt/downloads", LAB / "pip"
    _run("/usr/bin/python3", "-m", "venv", "--clear", str(pip))
    requirements = str(CHECKOUT / "tests/requirements.txt")
    _run(f"{pip}/bin/pip", "--quiet", "wheel", "--wheel-dir", str(downloads), "--requirement", requirements)
    _in_root("python3", "-m", "venv", ENVIRONMENT)
    wheels = [f"/opt/downloads/{one.name}" for one in sorted(downloads.glob("*.whl"))]
    _in_root(f"{ENVIRONMENT}/bin/pip", "--quiet", "install", "--no-index", *wheels)
    shutil.rmtree(downloads)


def boot() -> None:
    """Start it, if it does not run, and wait until its ssh answers. The first time, let its Docker load the image."""
    if not _answers():
        _check_accelerator()
        # A smaller model of a processor (Nehalem) is not quicker: importing the tests' packages takes a third longer.
        command = ["qemu-system-x86_64", "-accel", ACCELERATOR, "-cpu", "max", "-smp", PROCESSORS]
        command += ["-m", "4096", "-display", "none", "-nodefaults", "-kernel", str(KERNEL), "-initrd", str(INITRD)]
        command += ["-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.show_status=false"]
        command += ["-drive", f"file={DISK},if=virtio,format=raw,cache=unsafe", "-device", "virtio-rng-pci"]
        command += ["-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{PORT}-:22", "-device", "virtio-net-pci,netdev=n"]
        command += ["-serial", f"file:{CONSOLE}", "-daemonize", "-pidfile", str(PROCESS)]
        _run(*command)
        deadline = time.monotonic() + BOOT_SECONDS
        while not _answers():
            if time.monotonic() > deadline:
                raise SystemExit(f"the guest does not answer; {CONSOLE} has what it said")
            time.sleep(2)
    guest("root", f"docker image inspect {IMAGE} >/dev/null 2>&1 || docker load --quiet --input {SAVED}")


def _check_accelerator() -> None:
    """A KVM without the processor's own virtualization emulates each instruction of a kernel that is not made for it:
    Debian's does not come as far as its first message within minutes."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if ACCELERATOR.startswith("kvm") and not flags & {"vmx", "svm"}:
        raise SystemExit("C2D_LAB_ACCELERATOR=kvm: this host's processor shows neither vmx nor svm; unset the variable")


def _answers() -> bool:
    return subprocess.run(_ssh("root", "true"), check=False, stderr=subprocess.DEVNULL).returncode == 0


def install() -> None:
    """Copy this checkout there, also what is not committed, and install it: as the Debian package, which is made here,
    and the package's modules for the tests."""
    _run(str(CHECKOUT / "packaging/wheels"), "--python", "/usr/bin/python3", str(WHEELS))
    shutil.rmtree(PACKAGE, ignore_errors=True)
    _run(str(CHECKOUT / "packaging/debian/build"), "--wheels", str(WHEELS), "--output", str(PACKAGE))
    _copy(SOURCES, _checkout())
    _copy("/opt/package", PACKAGE)
    _copy(WHEELS_THERE, WHEELS)
    guest("root", "dpkg --install /opt/package/*.deb")
    guest("root", f"ln -sfn {SOURCES}/compute_to_data {ENVIRONMENT}/lib/python3.11/site-packages/compute_to_data")
    # pytest compiles tests in a form of its own, which takes as long as all the rest of its start. The account that
    # runs Podman's suites cannot keep it.
    guest("root", f"cd {SOURCES} && {ENVIRONMENT}/bin/pytest --collect-only -q {' '.join(_COMPILED)} >/dev/null")


def _checkout() -> Path:
    """The files of this checkout, with compiled modules: the guest takes minutes to compile them, and the account that
    runs Podman's suites, which cannot write there, would do so in each process."""
    listed = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
    shutil.rmtree(COPY, ignore_errors=True)
    for name in filter(None, map(os.fsdecode, names)):
        if os.path.lexists(CHECKOUT / name):
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, COPY / name, follow_symlinks=False)
    compiled = [str(COPY / name) for name in ("compute_to_data", "tests")]
    _run("/usr/bin/python3", "-m", "compileall", "-q", "-s", str(COPY), "-p", SOURCES, *compiled)
    return COPY


def _copy(folder: str, source: Path) -> None:
    """Put what is below ``source`` into a new folder of the guest."""
    pack = ["tar", "--create", "--gzip", f"--directory={source}", "."]
    packed = subprocess.run(pack, stdout=subprocess.PIPE, check=True).stdout
    unpack = f"rm -rf {folder} && mkdir -p {folder} && tar --extract --gzip --no-same-owner --directory={folder}"
    subprocess.run(_ssh("root", unpack), input=packed, check=True)


def test(*arguments: str) -> None:
    """Run pytest in the guest, as root, in the checkout."""
    given = {"CI": "true", "C2D_TEST_PATIENCE": PATIENCE, "C2D_TEST_WHEELS": WHEELS_THERE}
    given.update({one: os.environ[one] for one in PASSED_ON & {*os.environ}})
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
    guest("root", f"cd {SOURCES} && {variables} {ENVIRONMENT}/bin/pytest {shlex.join(arguments)}")


def run(*arguments: str) -> None:
    """All steps from a disk on."""
    if not DISK.exists():
        _timed(build)
    _timed(boot)
    try:
        _timed(install)
        _timed(test, *arguments)
    finally:
        _timed(off)


def _timed(step: Callable[..., None], *arguments: str) -> None:
    """Take a step, and print how long it took, also when it failed."""
    began = time.monotonic()
    try:
        step(*arguments)
    finally:
        print(f"lab: {step.__name__} took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def guest(account: str, command: str) -> None:
    """Run a shell command in the guest."""
    done = subprocess.run(_ssh(account, command), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def off() -> None:
    """Power it off, and wait for its end."""
    subprocess.run(_ssh("root", "poweroff"), check=False)
    while PROCESS.exists():
        time.sleep(0.5)


def _ssh(account: str, command: str) -> list[str]:
    known = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=120", "ServerAliveInterval=30"]
    options = [word for one in known for word in ("-o", one)]
    return ["ssh", "-q", "-i", str(KEY), "-p", PORT, *options, f"{account}@127.0.0.1", command]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _in_root(*command: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    subprocess.run(["chroot", str(ROOT), *command], check=True, stdin=subprocess.DEVNULL, env=environment)


STEPS: dict[str, Callable[..., None]] = {
    "build": build, "run": run, "boot": boot, "install": install, "test": test, "ssh": guest, "off": off,
}  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in STEPS:
        sys.exit(__doc__)
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
    else:
        _timed(STEPS[sys.argv[1]], *sys.argv[2:])
