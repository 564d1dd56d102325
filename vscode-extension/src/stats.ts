/** The panel with what the server counted. */

import * as vscode from 'vscode';

import { type FlashStats, STATS } from './protocol';
import type { Server } from './server';
import { statsPage } from './stats_text';

export class StatsPanel implements vscode.Disposable {
  private panel: vscode.WebviewPanel | undefined;

  constructor(private readonly server: Server) {}

  /** Show the present counts, also in a panel that is open already. */
  async show(): Promise<void> {
    const stats = await this.server.client.sendRequest<FlashStats>(STATS);
    if (this.panel === undefined) {
      const where = vscode.ViewColumn.Active;
      const options = { enableScripts: false, localResourceRoots: [] };
      const title = 'flash-lsp statistics';
      this.panel = vscode.window.createWebviewPanel('flash-lsp.stats', title, where, options);
      this.panel.onDidDispose(() => (this.panel = undefined));
    }
    this.panel.webview.html = statsPage(stats);
    this.panel.reveal();
  }

  dispose(): void {
    this.panel?.dispose();
  }
}
