"""Runs PostgreSQL for tests, where it is installed."""

import getpass
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def free_ports(count):
    """Return ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def free_port():
    return free_ports(1)[0]


@contextmanager
def postgresql(database):
    """Give the address of an empty database in a cluster of its own, on loopback."""
    place, port = Path(tempfile.mkdtemp(prefix="charlm-pg-")), free_port()
    as_owner = []
    if getpass.getuser() == "root":  # PostgreSQL refuses to run as root
        shutil.chown(place, "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]

    def run(name, *arguments):
        subprocess.run([*as_owner, BINARIES[-1].with_name(name), *arguments], check=True, capture_output=True, cwd="/")

    run("initdb", "-D", place / "data", "-U", "charlm", "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"
    run("pg_ctl", "-D", place / "data", "-w", "-l", place / "log", "-o", options, "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "charlm", database)
        yield f"postgresql://charlm@127.0.0.1:{port}/{database}"
    finally:
        run("pg_ctl", "-D", place / "data", "-m", "immediate", "stop")
        shutil.rmtree(place)
