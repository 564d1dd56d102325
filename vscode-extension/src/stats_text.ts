/** The statistics as a page without scripts. Every foreign text goes through `say`. */

import type { FlashStats, RequestRecord } from './protocol';

const RECENT = 20;

const STYLE = `
body { font-family: var(--vscode-font-family); color: var(--vscode-foreground); padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .15rem 1.2rem .15rem 0; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
th { color: var(--vscode-descriptionForeground); font-weight: normal; }
`;

export function statsPage(stats: FlashStats): string {
  const kept =
    stats.keptRate === null
      ? 'not known yet'
      : `${percent(stats.keptRate)} of ${stats.nKeptChecked} looked at`;
  const parts = [
    '<h1>flash-lsp</h1><p>Counted since the server started, and kept on this machine.</p>',
    table('Completions', {
      shown: stats.nShown,
      accepted: stats.nAccepted,
      'accepted in parts': stats.nPartiallyAccepted,
      'characters accepted': stats.nAcceptedChars,
      'kept 30 s later': kept,
    }),
    recentTable(stats.recent.slice(-RECENT).reverse()),
    table('How requests ended', stats.outcomes),
    table('Edits', stats.edits),
    table('Next edits', stats.nextEdits),
    table('Engine', stats.engine ?? {}),
  ];
  const policy = "default-src 'none'; style-src 'unsafe-inline'";
  return `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}"><title>flash-lsp</title>
<style>${STYLE}</style></head><body>${parts.join('\n')}</body></html>`;
}

function table(title: string, rows: Record<string, number | string>): string {
  const shown = Object.entries(rows).map(([name, value]) => row([name, number(value)]));
  return shown.length === 0 ? '' : `<h2>${say(title)}</h2><table>${shown.join('')}</table>`;
}

function recentTable(records: readonly RequestRecord[]): string {
  if (records.length === 0) {
    return '';
  }
  const head = ['outcome', 'ms', 'reading', 'writing', 'prompt', 'cached', 'tokens'];
  const rows = records.map((record) =>
    row([
      record.outcome,
      ...[record.totalMs, record.prefillMs, record.decodeMs, record.promptTokens].map(number),
      ...[record.cachedTokens, record.tokens].map(number),
    ]),
  );
  const titles = head.map((name) => `<th>${name}</th>`).join('');
  return `<h2>The latest requests</h2><table><tr>${titles}</tr>${rows.join('')}</table>`;
}

function row(cells: readonly string[]): string {
  return `<tr>${cells.map((cell) => `<td>${say(cell)}</td>`).join('')}</tr>`;
}

function number(value: number | string | undefined): string {
  return typeof value === 'number'
    ? value.toLocaleString('en', { maximumFractionDigits: 1 })
    : (value ?? '');
}

function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

function say(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => names[character] ?? character);
}
