"""A language client without any library: prints what flash-lsp would insert at a place in a file.

python examples/plain_client.py FILE LINE COLUMN [SERVER COMMAND...]      (both count from 1)
"""

import json
import subprocess
import sys
from pathlib import Path

file, line, column, *command = sys.argv[1:]
command = command or ["flash-lsp", "serve"]
server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def send(**message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    server.stdin.flush()


def ask(id, method, params=None):
    send(id=id, method=method, params=params or {})
    while header := server.stdout.readline():
        server.stdout.readline()  # the empty line between header and body
        answer = json.loads(server.stdout.read(int(header.split(b":")[1])))
        if answer.get("id") == id:
            return answer.get("result") or sys.exit(f"{method}: {answer.get('error')}")
    sys.exit("the server ended")


uri, text = Path(file).resolve().as_uri(), Path(file).read_text(encoding="utf-8")
document = {"uri": uri, "languageId": "", "version": 1, "text": text}
place = {"line": int(line) - 1, "character": int(column) - 1}
ask(1, "initialize", {"capabilities": {"general": {"positionEncodings": ["utf-32"]}}})
send(method="initialized", params={})
send(method="textDocument/didOpen", params={"textDocument": document})
query = {"textDocument": {"uri": uri}, "position": place, "context": {"triggerKind": 1}}
for item in ask(2, "textDocument/inlineCompletion", query)["items"]:
    print(item["insertText"])
send(id=3, method="shutdown")
send(method="exit")
