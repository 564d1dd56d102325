"""What tests of several packages ask for."""

import pytest

from engine.backends.gpu.emulated import EmulatedDriver
from engine.errors import CompileError


@pytest.fixture(scope="session")
def host_compiler() -> None:
    """Skips a test where there is none: kernels that do not compile fail it."""
    try:
        EmulatedDriver().compiler()
    except CompileError as error:
        pytest.skip(str(error))
