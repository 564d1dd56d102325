/** The difference an edit makes, in the editor's own diff view, while the edit comes and after. */

import * as vscode from 'vscode';

export const SCHEME = 'flash-lsp-edit';

/** One difference. `closed` fires when its tab is gone, whoever closed it. */
export class Preview implements vscode.Disposable {
  private readonly closedEmitter = new vscode.EventEmitter<void>();
  readonly closed = this.closedEmitter.event;
  private readonly watch: vscode.Disposable;

  constructor(
    private readonly texts: PreviewTexts,
    readonly before: vscode.Uri,
    readonly after: vscode.Uri,
  ) {
    this.watch = vscode.window.tabGroups.onDidChangeTabs((event) => {
      if (event.closed.some((tab) => this.isOurs(tab))) {
        this.closedEmitter.fire();
      }
    });
  }

  update(text: string): void {
    this.texts.set(this.after, text);
  }

  async close(): Promise<void> {
    const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
    await vscode.window.tabGroups.close(tabs.filter((tab) => this.isOurs(tab)));
  }

  dispose(): void {
    this.watch.dispose();
    this.closedEmitter.dispose();
    this.texts.delete(this.before);
    this.texts.delete(this.after);
  }

  private isOurs(tab: vscode.Tab): boolean {
    const input = tab.input;
    return (
      input instanceof vscode.TabInputTextDiff &&
      input.modified.toString() === this.after.toString()
    );
  }
}

/** The texts of both sides, which are documents without a file. */
export class PreviewTexts implements vscode.TextDocumentContentProvider, vscode.Disposable {
  private readonly texts = new Map<string, string>();
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.changed.event;
  private readonly registration = vscode.workspace.registerTextDocumentContentProvider(
    SCHEME,
    this,
  );

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.texts.get(uri.toString()) ?? '';
  }

  /** Show `text` beside itself; the title says whose difference it will be. */
  async open(id: string, source: vscode.Uri, text: string, title: string): Promise<Preview> {
    // The path ends as the source's does, from which the editor knows the language.
    const side = (name: string) =>
      vscode.Uri.from({ scheme: SCHEME, path: source.path, query: `${id}-${name}` });
    const preview = new Preview(this, side('before'), side('after'));
    this.set(preview.before, text);
    this.set(preview.after, text);
    await vscode.commands.executeCommand('vscode.diff', preview.before, preview.after, title);
    return preview;
  }

  set(uri: vscode.Uri, text: string): void {
    this.texts.set(uri.toString(), text);
    this.changed.fire(uri);
  }

  delete(uri: vscode.Uri): void {
    this.texts.delete(uri.toString());
  }

  dispose(): void {
    this.registration.dispose();
    this.changed.dispose();
  }
}
