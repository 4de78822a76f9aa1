"""`charlm import hf://…`, against a stand-in of the hub's HTTP API: the real one is not reached by tests."""

import http.server
import json
import os
import subprocess
import threading

import pytest
from support.fork_server import commands
from support.projects import ROOT

from pipeline.core.errors import UserError
from pipeline.export.importing import opened


class Hub(http.server.ThreadingHTTPServer):
    """A stand-in for the hub's HTTP API, on loopback: one model, whose files and their sizes are in `files`."""

    REPOSITORY = "someone/charlm-book"

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.sizes = {name: len(content) for name, content in self.files.items()}
        self.requested = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, hub = self.path.partition("?")[0], self.server
        hub.requested.append(path)
        api, resolve = f"/api/models/{hub.REPOSITORY}", f"/{hub.REPOSITORY}/resolve/main/"
        if path in (api, f"{api}/revision/main"):
            self.answer({"id": hub.REPOSITORY, "sha": "0" * 40, "private": False, "siblings": []})
        elif path == f"{api}/tree/main":
            sizes = hub.sizes.items()
            self.answer([{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes])
        elif path.startswith(resolve):
            first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
            self.answer(hub.files[path.removeprefix(resolve)][first : last + 1], 206)
        else:
            self.answer({"error": "Repository not found"}, 404, "RepoNotFound")

    def answer(self, content, status=200, error=""):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "X-Error-Code": error}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(exported, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    with Hub(exported) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        # What HF_ENDPOINT sets when the library is imported.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", one.address)
        files = f"{one.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        thread.start()
        yield one
        one.shutdown()
        thread.join()
    huggingface_hub.HfFileSystem.clear_instance_cache()


def test_a_model_on_a_hub_can_be_imported(hub, model):
    with opened(f"hf://{hub.REPOSITORY}") as (_, found, card):
        assert all((found.weights[name] == value).all() for name, value in model.weights.items())
        assert card["corpus"] == "book.txt"
    downloaded = {path.rpartition("/")[2] for path in hub.requested if "/resolve/" in path}
    assert downloaded == set(hub.files) - {"README.md"}


def test_a_file_on_a_hub_that_is_too_large_is_not_downloaded(hub):
    hub.sizes["model.safetensors"] = 5 << 30
    with pytest.raises(UserError) as error, opened(f"hf://{hub.REPOSITORY}"):
        pass
    address = f"hf://{hub.REPOSITORY}/model.safetensors"
    assert str(error.value) == f"{address}: larger than 4096 MB, the most that is allowed"
    assert not any("/resolve/" in path and "model.safetensors" in path for path in hub.requested)


def test_a_file_on_a_hub_that_was_changed_is_refused(hub):
    hub.files["config.json"] = hub.files["config.json"].replace(b"lstm", b"gru ")
    with pytest.raises(UserError, match=r"config\.json: changed or cut off"), opened(f"hf://{hub.REPOSITORY}"):
        pass


def test_a_hub_without_the_model_is_one_line(hub):
    with pytest.raises(UserError, match=r"no model there, or it is private: .*someone/else") as error:
        opened("hf://someone/else").__enter__()
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_model_on_a_hub_is_registered_and_used(hub, tmp_path):
    (tmp_path / "project").mkdir()

    def charlm(*arguments):
        return subprocess.run(
            [commands() / "charlm", *arguments],
            cwd=tmp_path / "project",
            env=os.environ | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
        )

    done = charlm("import", f"hf://{hub.REPOSITORY}")
    assert done.stdout == f"charlm-book version 1 is champion: imported from hf://{hub.REPOSITORY}\n", done.stderr
    done = charlm("generate", "a", "--num-chars", "5", "--model", "models:/charlm-book@champion")
    assert "perplexity 3.594" in done.stderr
    assert len(done.stdout) == 7
    hub.sizes["config.json"] = 5 << 20
    done = charlm("import", f"hf://{hub.REPOSITORY}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: hf://{hub.REPOSITORY}/config.json: larger than 4 MB, the most that is allowed\n"
