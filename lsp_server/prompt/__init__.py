"""What prompt a model gets, where its completion ends, and what of it is shown."""

from lsp_server.prompt.forms import FORMS, Form, Prompt, build_prompt
from lsp_server.prompt.postprocess import postprocess
from lsp_server.prompt.situation import CompletionInput
from lsp_server.prompt.skipping import skip_reason
from lsp_server.prompt.stopping import StopRule

__all__ = [
    "FORMS",
    "CompletionInput",
    "Form",
    "Prompt",
    "StopRule",
    "build_prompt",
    "postprocess",
    "skip_reason",
]
