"""`zoo lsp`, spoken to as an editor does: JSON-RPC over stdio in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = '{\n  "model": {"désc": "é", "fiting_net": {"neuron": [1.0]}},\n  "loss": {},\n}\n'


class Client:
    """Speaks the protocol: header, blank line, body."""

    def __init__(self, process):
        self.process = process
        self.number = 0

    def send(self, method, params, *, number=None):
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        body = json.dumps(message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def receive(self):
        length = 0
        while (line := self.process.stdout.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self.process.stdout.read(length))

    def ask(self, method, params):
        self.number += 1
        self.send(method, params, number=self.number)
        while (answer := self.receive()).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def published(self):
        while (message := self.receive()).get("method") != "textDocument/publishDiagnostics":
            pass
        return message["params"]


@pytest.fixture
def client(tmp_path):
    code = "import sys; sys.argv = ['zoo', 'lsp']; from cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        client = Client(process)
        params = {"processId": None, "rootUri": tmp_path.as_uri(), "capabilities": {}}
        client.capabilities = client.ask("initialize", params)["capabilities"]
        client.send("initialized", {})
        yield client
        client.ask("shutdown", None)
        client.send("exit", None)
        assert process.wait(timeout=20) == 0


def opened(client, folder, text, name="input.json"):
    uri = (folder / name).as_uri()
    item = {"uri": uri, "languageId": "json", "version": 1, "text": text}
    client.send("textDocument/didOpen", {"textDocument": item})
    return uri, client.published()


def applied(text, edits):
    lines = text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines) + 1)]
    placed = [
        (starts[e["range"]["start"]["line"]] + e["range"]["start"]["character"],
         starts[e["range"]["end"]["line"]] + e["range"]["end"]["character"], e["newText"])
        for e in edits
    ]  # fmt: skip
    for start, end, new in sorted(placed, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def test_an_editor_gets_diagnostics_fixes_and_hover(client, tmp_path):
    for feature in ("hoverProvider", "codeActionProvider", "textDocumentSync"):
        assert client.capabilities[feature]
    uri, published = opened(client, tmp_path, TEXT)
    found = {item["code"]: item for item in published["diagnostics"]}
    typo = next(d for d in published["diagnostics"] if "fiting_net" in d["message"])
    start = TEXT.split("\n")[1].index('"fiting_net"')
    assert typo["range"] == {
        "start": {"line": 1, "character": start},
        "end": {"line": 1, "character": start + len('"fiting_net"')},
    }
    assert typo["severity"] == 1
    assert typo["source"] == "zoo"
    assert {"ZOO001", "ZOO101", "ZOO102"} <= set(found)

    context = {"diagnostics": [typo]}
    where = {"textDocument": {"uri": uri}, "range": typo["range"], "context": context}
    actions = client.ask("textDocument/codeAction", where)
    rename = next(action for action in actions if "fitting_net" in action["title"])
    assert rename["kind"] == "quickfix"
    text = applied(TEXT, rename["edit"]["changes"][uri])
    assert text == TEXT.replace("fiting_net", "fitting_net")

    change = {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"text": text}]}
    client.send("textDocument/didChange", change)
    assert not any("fiting_net" in d["message"] for d in client.published()["diagnostics"])

    place = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": start + 20}}
    hover = client.ask("textDocument/hover", place)
    assert "model.fitting_net.neuron" in hover["contents"]["value"]
    nowhere = {"textDocument": {"uri": uri}, "position": {"line": 40, "character": 0}}
    assert client.ask("textDocument/hover", nowhere) is None

    client.send("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert client.published()["diagnostics"] == []


def test_json_files_that_are_no_inputs_are_left_in_peace(client, tmp_path):
    _, published = opened(client, tmp_path, '{"name": "package", "version": "1"}', "package.json")
    assert published["diagnostics"] == []


def test_without_pygls_there_is_a_sentence_and_the_command(monkeypatch):
    from cli.inputs import lsp
    from schemas.base.errors import ConfigError

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pygls") as caught:
        lsp()
    assert "pip install 'dpa-zoo[lsp]'" in (caught.value.hint or "")
