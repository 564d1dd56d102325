/** How a next edit looks: what goes is marked, what comes is written behind it.

VS Code has an inline-edit view of its own, which only extensions of its maker may use.
*/

import * as vscode from 'vscode';

import { asOneLine, changedPart } from './changed_part';
import type { InlineEdit } from './protocol';

const MOST_CHARS = 160;

export class NextEditView implements vscode.Disposable {
  private readonly removed = vscode.window.createTextEditorDecorationType({
    backgroundColor: new vscode.ThemeColor('diffEditor.removedTextBackground'),
    overviewRulerColor: new vscode.ThemeColor('editorOverviewRuler.modifiedForeground'),
  });
  private readonly inserted = vscode.window.createTextEditorDecorationType({});
  private readonly hint = vscode.window.createTextEditorDecorationType({ isWholeLine: true });
  private editor: vscode.TextEditor | undefined;

  show(editor: vscode.TextEditor, range: vscode.Range, edit: InlineEdit): void {
    this.editor = editor;
    const { document } = editor;
    const before = document.getText(range);
    const { head, tail } = changedPart(before, edit.text);
    const start = document.offsetAt(range.start);
    const changed = new vscode.Range(
      document.positionAt(start + head),
      document.positionAt(start + before.length - tail),
    );
    const hoverMessage = difference(edit.command.title, before, edit.text);
    const isShort = edit.text.length <= MOST_CHARS;
    const shown = isShort
      ? edit.text.slice(head, edit.text.length - tail)
      : `${edit.text.slice(head, head + MOST_CHARS)}…`;
    editor.setDecorations(this.removed, [{ range: changed, hoverMessage }]);
    editor.setDecorations(this.inserted, [
      {
        range: new vscode.Range(changed.end, changed.end),
        hoverMessage,
        renderOptions: { after: inserted(shown) },
      },
    ]);
    editor.setDecorations(this.hint, [hintAt(editor, changed, edit.command.title)]);
  }

  hide(): void {
    for (const type of [this.removed, this.inserted, this.hint]) {
      this.editor?.setDecorations(type, []);
    }
    this.editor = undefined;
  }

  dispose(): void {
    this.removed.dispose();
    this.inserted.dispose();
    this.hint.dispose();
  }
}

function inserted(text: string): vscode.ThemableDecorationAttachmentRenderOptions {
  return {
    contentText: asOneLine(text),
    backgroundColor: new vscode.ThemeColor('diffEditor.insertedTextBackground'),
    color: new vscode.ThemeColor('editor.foreground'),
  };
}

/** Which key does it: at the edit, or at the cursor if the edit is out of sight. */
function hintAt(
  editor: vscode.TextEditor,
  changed: vscode.Range,
  why: string,
): vscode.DecorationOptions {
  const isVisible = editor.visibleRanges.some((visible) => visible.contains(changed.start));
  const line = isVisible ? changed.end.line : editor.selection.active.line;
  const where = isVisible ? 'Tab' : `Tab: line ${changed.start.line + 1}`;
  const end = editor.document.lineAt(line).range.end;
  return {
    range: new vscode.Range(end, end),
    renderOptions: {
      after: {
        contentText: `${where} · ${why}`,
        margin: '0 0 0 3ch',
        color: new vscode.ThemeColor('editorGhostText.foreground'),
        fontStyle: 'italic',
      },
    },
  };
}

function difference(why: string, before: string, after: string): vscode.MarkdownString {
  const lines = (mark: string, text: string) => text.split(/\r\n|\r|\n/).map((line) => mark + line);
  const hover = new vscode.MarkdownString().appendText(`flash-lsp: ${why}`);
  return hover.appendCodeblock([...lines('-', before), ...lines('+', after)].join('\n'), 'diff');
}
