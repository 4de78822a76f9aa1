"""The process whose forks run stages and commands in other tests."""

import os
import signal
import socket
import subprocess
import time

import psutil
import pytest
from support.fork_server import ForkServer

PROGRAM = """
import os, sys, psutil
if __name__ == "__main__":
    what = sys.argv[1]
    if what == "say":
        is_child = psutil.Process().parents()[0].pid == int(sys.argv[2])
        print(os.getcwd(), os.environ.get("GIVEN"), sys.stdin.read(), is_child)
        sys.exit("bye")
    if what == "fail":
        raise ValueError("no")
    if what == "wait":
        print("ready", flush=True)
        import time
        time.sleep(60)
"""


@pytest.fixture(scope="module")
def server():
    with ForkServer("psutil") as one:
        yield one


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_a_command_has_its_callers_folder_environment_files_and_parent(server, folder):
    command = [server.commands / "python", "-m", "program", "say", str(os.getpid())]
    environment = os.environ | {"GIVEN": "this"}
    done = subprocess.run(command, cwd=folder, env=environment, input="typed", capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == (f"{folder} this typed True\n", "bye\n", 1)
    failed = subprocess.run([*command[:3], "fail"], cwd=folder, capture_output=True, text=True)
    assert failed.stderr.endswith("ValueError: no\n")
    assert failed.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_both_processes(server, folder, number):
    command = [server.commands / "python", "-m", "program", "wait"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout.readline() == "ready\n"
        (fork,) = psutil.Process(server._process.pid).children()
        running.send_signal(number)
        assert running.wait(20) == -number
        fork.wait(20)


def test_a_client_that_ends_before_its_request_is_complete_does_no_harm(server, folder):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(server.address)
        one.sendall(b"{")
    started = time.monotonic()
    assert server.run(folder, "os:getcwd", timeout=20).code == 1  # sys.exit(a string) prints it
    assert time.monotonic() - started < 20


def test_a_call_that_takes_too_long_is_ended(server, folder):
    assert server.run(folder, "signal:pause", timeout=0.5).code is None
