"""The process of both llama.cpp workers: a stand-alone script for another interpreter.

    python cli_bench_worker.py MODULE

Imports nothing of flash-lsp but MODULE, which lies beside it and offers `operations()`. Reads one
JSON request per line from stdin and answers each with one JSON line: its result, or
{"error": message}. What llama.cpp prints goes to stderr.
"""

import importlib
import json
import os
import sys


def main() -> None:
    """Serve requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp must not print into the protocol
    operations = importlib.import_module(sys.argv[1]).operations()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = operations[request.pop("op")](**request)
        except Exception as error:  # the boundary: every request gets its answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
