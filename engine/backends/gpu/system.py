"""What the operating system says about GPUs, without any driver: hardware, device files, rights."""

import grp
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec

from engine.backends.gpu.probe import Probe

_PROBE_TIMEOUT_S = 30
_DISPLAY_CLASSES = ("0x03", "0x12")  # PCI: display controllers, processing accelerators


@dataclass(frozen=True)
class System:
    """This machine; a `root` other than "/" is a machine made of files."""

    root: Path = Path("/")

    def has_hardware(self, pci_vendor: str) -> bool:
        """Whether a display controller or accelerator of the PCI vendor, as "0x1002", is there."""
        return any(
            _text(device / "vendor") == pci_vendor
            and _text(device / "class").startswith(_DISPLAY_CLASSES)
            for device in self.root.glob("sys/bus/pci/devices/*")
        )

    def has_file(self, path: str) -> bool:
        return (self.root / path).exists()

    def amd_archs(self) -> list[str]:
        """The GPUs the amdgpu kernel driver knows, as "gfx1151"."""
        found: list[str] = []
        for node in sorted(self.root.glob("sys/class/kfd/kfd/topology/nodes/*/properties")):
            for line in _text(node).splitlines():
                name, _, value = line.partition(" ")
                if name == "gfx_target_version" and value.strip().isdigit() and int(value):
                    major, rest = divmod(int(value), 10000)
                    minor, stepping = divmod(rest, 100)
                    found.append(f"gfx{major}{minor:x}{stepping:x}")
        return found

    def forbidden_files(self, *patterns: str) -> list[Path]:
        """Device files that we may not both read and write."""
        found = [path for pattern in patterns for path in sorted(self.root.glob(pattern))]
        return [path for path in found if not os.access(path, os.R_OK | os.W_OK)]

    def group_of(self, path: Path) -> str:
        """The name of the group a file belongs to."""
        gid = path.stat().st_gid
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)

    def version_of(self, *packages: str) -> str | None:
        """The version of the first of these Python packages that is installed."""
        for package in packages:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return None

    def probe(self) -> Probe | None:
        """What the drivers say; None if asking them ended or hung the process that asked."""
        # -P: a folder we were started in must not offer its own modules.
        command = [sys.executable, "-P", "-m", "engine.backends.gpu.probe"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_PROBE_TIMEOUT_S, env=environment
            )
            return msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2], type=Probe)
        except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError):
            return None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
