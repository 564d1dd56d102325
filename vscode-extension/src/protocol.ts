/** Messages of flash-lsp's own, as lsp_server/protocol.py defines them; what is used here of each. */

import type { Command, Range } from 'vscode-languageclient';

export interface FlashModel {
  name: string;
  path: string;
  backend: string;
  contextTokens: number;
  memoryBytes: number;
  threads: number;
  loadMs: number;
  notices: string[];
}

export interface FlashStatus {
  state: 'starting' | 'loading' | 'ready' | 'failed' | 'closed' | 'disabled';
  message: string;
  fraction: number | null;
  model: FlashModel | null;
}

/** How one completion went. */
export interface RequestRecord {
  outcome: string;
  totalMs: number;
  prefillMs?: number;
  decodeMs?: number;
  promptTokens?: number;
  cachedTokens?: number;
  tokens?: number;
}

export interface FlashStats {
  engine: Record<string, number> | null;
  outcomes: Record<string, number>;
  nShown: number;
  nAccepted: number;
  nPartiallyAccepted: number;
  nAcceptedChars: number;
  nKeptChecked: number;
  keptRate: number | null;
  edits: Record<string, number>;
  nextEdits: Record<string, number>;
  recent: RequestRecord[];
}

/** The one argument of the command flash.edit. */
export interface EditArguments {
  uri: string;
  range: Range;
  instruction: string;
  version?: number;
  id?: string;
  apply?: boolean;
  keepsCode?: boolean;
}

export interface EditEvent {
  id: string;
  uri: string;
  kind: 'delta' | 'done' | 'failed';
  text?: string;
}

export interface InlineEdit {
  text: string;
  textDocument: { uri: string; version: number | null };
  range: Range;
  command: Command;
}

export interface ContextSpan {
  uri: string;
  firstLine: number;
  nLines: number;
  score: number;
  isKept: boolean;
  reason: string;
}

export interface ContextPage {
  report: { spans: ContextSpan[] };
  html: string;
}

export const DID_CHANGE_STATUS = 'flash/didChangeStatus';
export const STATUS = 'flash/status';
export const STATS = 'flash/stats';
export const CONTEXT_PAGE = 'flash/contextPage';
export const EDIT = 'flash/edit';
export const INLINE_EDIT = 'textDocument/copilotInlineEdit';
export const DID_SHOW_INLINE_EDIT = 'textDocument/didShowInlineEdit';
export const DID_SHOW_COMPLETION = 'textDocument/didShowCompletion';
export const DID_PARTIALLY_ACCEPT_COMPLETION = 'textDocument/didPartiallyAcceptCompletion';
export const DID_FOCUS = 'textDocument/didFocus';
export const EDIT_COMMAND = 'flash.edit';
