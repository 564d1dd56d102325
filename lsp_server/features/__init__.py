"""What the server can do: one file per feature, registered by one line here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lsp_server.features import (
    completion_reports,
    flash_capsule,
    flash_context,
    flash_edit,
    flash_stats,
    flash_status,
    lifecycle,
    text_document_code_action,
    text_document_completion,
    text_document_copilot_inline_edit,
    text_document_inline_completion,
    text_document_sync,
    workspace_configuration,
    workspace_did_change_watched_files,
    workspace_execute_command,
    workspace_folders,
)

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

REGISTER: "tuple[Callable[[FlashServer], None], ...]" = (
    lifecycle.register,
    text_document_sync.register,
    text_document_inline_completion.register,
    text_document_completion.register,
    workspace_folders.register,
    workspace_configuration.register,
    workspace_did_change_watched_files.register,
    workspace_execute_command.register,
    flash_edit.register,
    flash_capsule.register,
    flash_context.register,
    text_document_code_action.register,
    text_document_copilot_inline_edit.register,
    completion_reports.register,
    flash_status.register,
    flash_stats.register,
)
