"""A Hub on this machine: the answers of huggingface.co to a download, and faults on request."""

import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

__all__ = ["FakeHub", "fake_hub"]

_URL = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/?]+)"
                  r"|/(?P<owned>[^/]+/[^/]+)/resolve/(?P<commit>[^/]+)/(?P<file>.+)")


class FakeHub:
    """Models of the Hub, and what its server does.

    Members
    -------
    commits : dict
        Commit and directory of each revision of each model, by name and revision.
    gated : dict
        Token that may read a model, by name.
    cut : dict
        Number of bytes after which the next transfer of a file breaks, by file name.
    status : int or None
        HTTP error of every answer.
    requests : list
        Method, path and Range of all requests.
    """

    def __init__(self):
        self.commits, self.gated, self.cut, self.status = {}, {}, {}, None
        self.requests, self.endpoint = [], ""

    def add(self, name, folder, revision="main"):
        """Offer a directory as a revision of a model, and return its commit."""
        commit = hashlib.sha1(f"{name} {revision}".encode()).hexdigest()
        self.commits.setdefault(name, {}).update(
            dict.fromkeys((revision, commit), (commit, folder)))
        return commit

    @property
    def sent(self):
        """Names of the files whose bytes were asked for, in order."""
        return [path.rpartition("/")[2] for method, path, _ in self.requests
                if method == "GET" and "/resolve/" in path]


@contextmanager
def fake_hub():
    """Serve a FakeHub on a free port of this machine."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def log_message(self, *_):
        pass

    def _answer(self):
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        found = _URL.match(self.path)
        name = found and (found["name"] or found["owned"])
        revisions, token = self.hub.commits.get(name), self.hub.gated.get(name)
        revision = found and (found["revision"] or found["commit"])
        if self.hub.status:
            self._refuse(self.hub.status, "Broken")
        elif revisions is None:
            self._refuse(401, "RepoNotFound")
        elif revision not in revisions:
            self._refuse(404, "RevisionNotFound")
        elif found["what"]:
            self._describe(name, *revisions[revision], found["what"])
        elif token and self.headers.get("Authorization") != f"Bearer {token}":
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        else:
            self._send_file(*revisions[revision], found["file"])

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _describe(self, name, commit, folder, what):
        files = _files(folder)
        self._send_json(
            {"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]}
            if what == "revision" else
            [{"type": "file", "path": path, "size": file.stat().st_size, "oid": _oid(file)}
             for path, file in files.items()])

    def _send_json(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_file(self, commit, folder, name):
        path = _files(folder).get(name)
        if path is None:
            self._refuse(404, "EntryNotFound")
            return
        data, first = path.read_bytes(), 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            first = int(asked[1])
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.send_header("ETag", f'"{_oid(path)}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET":
            last = self.hub.cut.pop(path.name, len(data))
            self.wfile.write(data[first:last])
            self.close_connection = True


def _files(folder):
    """Files of a model by their paths in it."""
    return {file.relative_to(folder).as_posix(): file
            for file in sorted(folder.rglob("*")) if file.is_file()}


def _oid(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()
