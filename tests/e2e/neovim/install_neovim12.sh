#!/bin/sh
# Unpacks Neovim 0.12 and the libraries it needs from Debian forky into a folder, on any Debian;
# nothing is installed, and what is there already is left as it is.
# usage: tests/e2e/neovim/install_neovim12.sh [FOLDER]   (default: build/neovim12, where tests look;
#        FLASH_LSP_NVIM12=FOLDER/nvim has them look elsewhere)
set -eu
cd "$(dirname "$0")/../../.."
mkdir -p "${1:-build/neovim12}"
cd "${1:-build/neovim12}"
folder=$PWD
[ ! -x nvim ] || exec ./nvim --version

# From the archive this machine uses already.
archive=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources \
    2>/dev/null | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1)
[ -n "$archive" ] || { echo "no Debian archive is configured here" >&2; exit 1; }
mkdir -p state/lists/partial cache/archives/partial root
: > state/status # of a system without any package: every library comes along
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive forky main" > sources
cat > apt.conf <<END
Dir::Etc::SourceList "$folder/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State "$folder/state";
Dir::State::Status "$folder/state/status";
Dir::Cache "$folder/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
END
export APT_CONFIG="$folder/apt.conf"
apt-get update -qq
apt-get install -qq -y --download-only neovim
for package in cache/archives/*.deb; do dpkg-deb -x "$package" root; done

libraries=$(dirname "$(find "$folder/root/usr/lib" -name 'libc.so.6' | head -1)")
# Neovim looks for its parsers beside the program that was started, which is the loader.
cp "$(find "$libraries" -maxdepth 1 -name 'ld-linux-*.so.*' | head -1)" root/usr/bin/nvim-loader
cat > nvim.part <<END
#!/bin/sh
export VIMRUNTIME="$folder/root/usr/share/nvim/runtime"
exec "$folder/root/usr/bin/nvim-loader" --library-path "$libraries" "$folder/root/usr/bin/nvim" "\$@"
END
chmod +x nvim.part
./nvim.part --version
mv nvim.part nvim
