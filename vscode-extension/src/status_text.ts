/** What the status item says of a server, apart from any editor. */

import type { FlashStats, FlashStatus } from './protocol';

/** The server's word on itself, or ours where there is no server to ask. */
export type Status = Omit<FlashStatus, 'state'> & {
  state: FlashStatus['state'] | 'stopped' | 'missing';
};

export const STOPPED: Status = {
  state: 'stopped',
  message: 'the server is not running',
  fraction: null,
  model: null,
};

export const MISSING: Status = {
  ...STOPPED,
  state: 'missing',
  message: 'the server was not found; it can be installed, or `flash-lsp.command` can name it',
};

/** The text of the status bar, with the editor's icons. */
export function statusText(status: Status, speed: number | undefined): string {
  switch (status.state) {
    case 'ready': {
      const rate = speed === undefined ? '' : ` ${Math.round(speed)} tok/s`;
      return `$(zap) ${modelName(status)}${rate}`;
    }
    case 'starting':
    case 'loading': {
      const share = status.fraction === null ? '' : ` ${Math.floor(100 * status.fraction)} %`;
      return `$(loading~spin) flash-lsp${share}`;
    }
    case 'disabled':
      return '$(debug-pause) flash-lsp paused';
    case 'failed':
      return '$(error) flash-lsp failed';
    case 'missing':
      return '$(cloud-download) flash-lsp: install';
    case 'stopped':
    case 'closed':
      return '$(circle-slash) flash-lsp stopped';
  }
}

/** The lines under the status bar's text. */
export function statusDetails(status: Status): string[] {
  const model = status.model;
  if (model === null) {
    return [status.message];
  }
  return [
    status.message,
    `model: ${model.name}, ${model.path}`,
    `runs on: ${model.backend}, ${model.threads} threads`,
    `context: ${model.contextTokens} tokens, memory: ${Math.round(model.memoryBytes / 2 ** 20)} MiB`,
    ...model.notices,
  ];
}

/** Tokens a second of the latest completions that the model wrote; undefined before any. */
export function decodeSpeed(stats: FlashStats): number | undefined {
  let tokens = 0;
  let ms = 0;
  for (const record of stats.recent) {
    if ((record.tokens ?? 0) > 1 && (record.decodeMs ?? 0) > 0) {
      tokens += record.tokens ?? 0;
      ms += record.decodeMs ?? 0;
    }
  }
  return ms > 0 ? (1000 * tokens) / ms : undefined;
}

/** A known model's name, or a file's without its folders. */
function modelName(status: Status): string {
  const name = status.model?.name ?? 'flash-lsp';
  return (
    name
      .split(/[/\\]/)
      .at(-1)
      ?.replace(/\.gguf$/, '') ?? name
  );
}
