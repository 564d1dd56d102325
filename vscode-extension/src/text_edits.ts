/** Text edits of the protocol on a plain text. VS Code and flash-lsp count in UTF-16 units. */

import type { Position, Range, TextEdit, WorkspaceEdit } from 'vscode-languageclient';

/** The offset of each line's start. */
export function lineStarts(text: string): number[] {
  const starts = [0];
  for (const found of text.matchAll(/\r\n|\r|\n/g)) {
    starts.push(found.index + found[0].length);
  }
  return starts;
}

/** The text with all edits in it; each edit's range is one of the text before. */
export function applied(text: string, edits: readonly TextEdit[]): string {
  const starts = lineStarts(text);
  const offset = (at: Position) =>
    Math.min((starts[at.line] ?? text.length) + at.character, text.length);
  const parts: string[] = [];
  let end = 0;
  for (const edit of [...edits].sort((a, b) => offset(a.range.start) - offset(b.range.start))) {
    parts.push(text.slice(end, offset(edit.range.start)), edit.newText);
    end = offset(edit.range.end);
  }
  return parts.join('') + text.slice(end);
}

/** The edits of the one document that an answer of flash.edit is about, and its version then. */
export function editsOf(answer: WorkspaceEdit): { version: number | null; edits: TextEdit[] } {
  const change = answer.documentChanges?.find((change) => 'textDocument' in change);
  if (change !== undefined && 'textDocument' in change) {
    return { version: change.textDocument.version, edits: change.edits as TextEdit[] };
  }
  return { version: null, edits: Object.values(answer.changes ?? {}).flat() };
}

/** The whole lines a range touches; a last one of which it holds nothing is not among them. */
export function wholeLines(range: Range): { first: number; end: number } {
  const isLastUntouched = range.end.character === 0 && range.end.line > range.start.line;
  return { first: range.start.line, end: isLastUntouched ? range.end.line : range.end.line + 1 };
}

/** The text with other lines in the place of some of its own. */
export function withLines(text: string, first: number, end: number, lines: string): string {
  const starts = lineStarts(text);
  return (
    text.slice(0, starts[first] ?? text.length) + lines + text.slice(starts[end] ?? text.length)
  );
}
