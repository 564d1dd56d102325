"""A whole engine in its child process, on a stand-in GPU that is lost again and again."""

import pytest

from engine.client import EngineClient, EngineState
from engine.config import EngineConfig
from engine.errors import DeviceLostError
from engine.request import GenerateRequest, PromptPart
from tests.gpu.standin.libraries import Standin, environment
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.timeout(200)
REQUEST = GenerateRequest(prompt=(PromptPart("hello"),), max_tokens=6)
GRAPHS = {"hip": "hipGraphLaunch", "cuda": "cuGraphLaunch"}


@pytest.mark.parametrize("standin", ["hip-10", "cuda-13"], indirect=True)
async def test_a_gpu_lost_twice_leaves_the_processor_serving(
    standin: Standin, tmp_path, monkeypatch
) -> None:
    fail = f"{GRAPHS[standin.backend]}=719@3"  # after the prompt and a token, in every life
    variables = environment(standin.libraries, XDG_CACHE_HOME=str(standin.cache), STANDIN_FAIL=fail)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(standin.package)
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0", n_ctx=256)
    backends: list[str] = []
    engine = EngineClient(
        EngineConfig(
            model=str(model), backend=standin.backend, speculation="off", prefix_cache_bytes=2**16
        )
    )
    try:
        await engine.start()
        for _ in range(2):
            backends.append((await engine.ready()).backend.partition(" ")[0])
            with pytest.raises(DeviceLostError, match="719"):
                await engine.generate(REQUEST)
        result = await engine.generate(REQUEST)
        assert len(result.tokens) == 6
        assert backends == [standin.backend] * 2
        assert engine.state is EngineState.READY
        assert engine.status.info is not None
        assert engine.status.info.backend.startswith("cpu")
        assert "the GPU failed 2 times within 10 minutes" in engine.status.message
    finally:
        await engine.close()
