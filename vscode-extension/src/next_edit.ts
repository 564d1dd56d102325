/** The next edit: asked for after a pause in typing, shown where it would be, taken with Tab. */

import * as vscode from 'vscode';

import { NextEditView } from './next_edit_view';
import { DID_SHOW_INLINE_EDIT, INLINE_EDIT, type InlineEdit } from './protocol';
import type { Server } from './server';

const PAUSE_MS = 350;

interface Offered {
  edit: InlineEdit;
  document: vscode.TextDocument;
  range: vscode.Range;
}

export class NextEdits implements vscode.Disposable {
  private readonly view = new NextEditView();
  private readonly subscriptions: vscode.Disposable;
  private offered: Offered | undefined;
  private pause: NodeJS.Timeout | undefined;
  private asking: vscode.CancellationTokenSource | undefined;
  /** What was turned down is not offered again while the text around it stays. */
  private readonly dismissed = new Set<string>();

  constructor(private readonly server: Server) {
    this.subscriptions = vscode.Disposable.from(
      vscode.workspace.onDidChangeTextDocument((event) => this.changed(event)),
      vscode.window.onDidChangeActiveTextEditor(() => this.clear()),
    );
  }

  /** Go to the edit if it is out of sight, else apply it. */
  async accept(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const offered = this.offered;
    if (editor === undefined || offered === undefined || editor.document !== offered.document) {
      return;
    }
    if (!editor.visibleRanges.some((visible) => visible.intersection(offered.range))) {
      editor.revealRange(offered.range, vscode.TextEditorRevealType.InCenter);
      return;
    }
    this.clear();
    const { edit, range } = offered;
    if (await editor.edit((builder) => builder.replace(range, edit.text))) {
      const end = editor.document.offsetAt(range.start) + edit.text.length;
      const cursor = editor.document.positionAt(end);
      editor.selection = new vscode.Selection(cursor, cursor);
      const { command, arguments: args = [] } = edit.command;
      await vscode.commands.executeCommand(command, ...args);
    }
  }

  dismiss(): void {
    if (this.offered !== undefined) {
      this.dismissed.add(keyOf(this.offered));
    }
    this.clear();
  }

  dispose(): void {
    this.clear();
    this.subscriptions.dispose();
    this.view.dispose();
  }

  private changed(event: vscode.TextDocumentChangeEvent): void {
    const editor = vscode.window.activeTextEditor;
    if (event.contentChanges.length === 0 || event.document !== editor?.document) {
      return;
    }
    this.clear();
    this.pause = setTimeout(() => void this.ask(editor), PAUSE_MS);
  }

  private clear(): void {
    clearTimeout(this.pause);
    this.asking?.cancel();
    this.asking = undefined;
    if (this.offered !== undefined) {
      this.offered = undefined;
      this.view.hide();
      void vscode.commands.executeCommand('setContext', 'flash-lsp.hasNextEdit', false);
    }
  }

  private async ask(editor: vscode.TextEditor): Promise<void> {
    const { document } = editor;
    if (
      this.server.status.state !== 'ready' ||
      !['file', 'untitled'].includes(document.uri.scheme)
    ) {
      return;
    }
    const { client } = this.server;
    const asking = new vscode.CancellationTokenSource();
    this.asking = asking;
    const { version } = document;
    const params = {
      textDocument: client.code2ProtocolConverter.asVersionedTextDocumentIdentifier(document),
      position: client.code2ProtocolConverter.asPosition(editor.selection.active),
      context: { diagnostics: problemsOf(document) },
    };
    try {
      const answer = await client.sendRequest<{ edits: InlineEdit[] }>(
        INLINE_EDIT,
        params,
        asking.token,
      );
      if (document.version === version && !asking.token.isCancellationRequested) {
        this.offer(editor, answer.edits[0]);
      }
    } catch {
      // Nobody asked for it: a server that cannot foresee an edit says so in its log.
    } finally {
      asking.dispose();
    }
  }

  private offer(editor: vscode.TextEditor, edit: InlineEdit | undefined): void {
    if (edit === undefined) {
      return;
    }
    const range = this.server.client.protocol2CodeConverter.asRange(edit.range);
    const offered = { edit, document: editor.document, range };
    if (this.dismissed.has(keyOf(offered))) {
      return;
    }
    this.offered = offered;
    this.view.show(editor, range, edit);
    void vscode.commands.executeCommand('setContext', 'flash-lsp.hasNextEdit', true);
    void this.server.client.sendNotification(DID_SHOW_INLINE_EDIT, { item: edit });
  }
}

function problemsOf(document: vscode.TextDocument): object[] {
  return vscode.languages.getDiagnostics(document.uri).map(({ range, message }) => ({
    range: {
      start: { line: range.start.line, character: range.start.character },
      end: { line: range.end.line, character: range.end.character },
    },
    message,
  }));
}

function keyOf({ edit, document, range }: Offered): string {
  return JSON.stringify([document.uri.toString(), document.getText(range), edit.text]);
}
