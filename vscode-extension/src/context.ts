/** The context explained: the server's page beside the editor, kept lines marked in open files. */

import * as vscode from 'vscode';

import { CONTEXT_PAGE, type ContextPage, type ContextSpan } from './protocol';
import type { Server } from './server';

export class ContextView implements vscode.Disposable {
  private panel: vscode.WebviewPanel | undefined;
  private spans: ContextSpan[] = [];
  private readonly kept = vscode.window.createTextEditorDecorationType({
    isWholeLine: true,
    backgroundColor: new vscode.ThemeColor('editor.rangeHighlightBackground'),
    overviewRulerColor: new vscode.ThemeColor('editorOverviewRuler.findMatchForeground'),
    overviewRulerLane: vscode.OverviewRulerLane.Right,
  });
  private readonly watch: vscode.Disposable;

  constructor(private readonly server: Server) {
    this.watch = vscode.window.onDidChangeVisibleTextEditors(() => this.mark());
  }

  /** Show what of the repository the model sees at the cursor. */
  async explain(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (editor === undefined) {
      void vscode.window.showErrorMessage('flash-lsp: open a file first, and put the cursor in it');
      return;
    }
    const { client } = this.server;
    const params = client.code2ProtocolConverter.asTextDocumentPositionParams(
      editor.document,
      editor.selection.active,
    );
    const page = await vscode.window.withProgress(
      { location: vscode.ProgressLocation.Window, title: 'flash-lsp: choosing the context' },
      () => client.sendRequest<ContextPage>(CONTEXT_PAGE, params),
    );
    this.spans = page.report.spans.filter((span) => span.isKept);
    this.shownPanel().webview.html = page.html;
    this.mark();
  }

  dispose(): void {
    this.panel?.dispose();
    this.kept.dispose();
    this.watch.dispose();
  }

  private shownPanel(): vscode.WebviewPanel {
    if (this.panel === undefined) {
      const where = { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true };
      // The page needs no script, and text of a repository must never become one.
      this.panel = vscode.window.createWebviewPanel('flash-lsp.context', 'Context', where, {
        enableScripts: false,
        localResourceRoots: [],
      });
      this.panel.onDidDispose(() => {
        this.panel = undefined;
        this.spans = [];
        this.mark();
      });
    }
    this.panel.reveal(undefined, true);
    return this.panel;
  }

  private mark(): void {
    for (const editor of vscode.window.visibleTextEditors) {
      const uri = editor.document.uri.toString();
      const ranges = this.spans
        .filter((span) => vscode.Uri.parse(span.uri).toString() === uri)
        .map((span) => ({
          range: new vscode.Range(span.firstLine, 0, span.firstLine + span.nLines - 1, 0),
          hoverMessage: `flash-lsp shows this to the model: ${span.reason}, score ${span.score.toFixed(2)}`,
        }));
      editor.setDecorations(this.kept, ranges);
    }
  }
}
