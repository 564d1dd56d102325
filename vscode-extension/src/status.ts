/** The item in the status bar, and the menu behind it. */

import * as vscode from 'vscode';

import { type FlashStats, STATS } from './protocol';
import type { Server } from './server';
import { decodeSpeed, statusDetails, type Status, statusText } from './status_text';

const SPEED_EVERY_MS = 3000;

export class StatusItem implements vscode.Disposable {
  private readonly item: vscode.StatusBarItem;
  private speed: number | undefined;
  private asking: NodeJS.Timeout | undefined;

  constructor(private readonly server: Server) {
    this.item = vscode.window.createStatusBarItem('state', vscode.StatusBarAlignment.Right, 100);
    this.item.name = 'flash-lsp';
    this.item.command = 'flash-lsp.menu';
    this.item.show();
    this.show(server.status);
  }

  show(status: Status): void {
    const isWrong = status.state === 'failed' || status.state === 'missing';
    const colour = isWrong ? 'statusBarItem.errorBackground' : undefined;
    this.item.text = statusText(status, this.speed);
    this.item.backgroundColor = colour === undefined ? undefined : new vscode.ThemeColor(colour);
    this.item.tooltip = statusDetails(status).join('\n');
    void vscode.commands.executeCommand(
      'setContext',
      'flash-lsp.isReady',
      status.state === 'ready',
    );
    void vscode.commands.executeCommand('setContext', 'flash-lsp.isRunning', this.server.isRunning);
  }

  /** Something was written: its speed is asked for soon, once for many. */
  wrote(): void {
    this.asking ??= setTimeout(() => void this.askSpeed(), SPEED_EVERY_MS);
  }

  dispose(): void {
    clearTimeout(this.asking);
    this.item.dispose();
  }

  private async askSpeed(): Promise<void> {
    try {
      this.speed = decodeSpeed(await this.server.client.sendRequest<FlashStats>(STATS));
      this.show(this.server.status);
    } catch {
      // The server has gone meanwhile, which the item says already.
    } finally {
      this.asking = undefined;
    }
  }
}

/** What can be done with the server in its present state. */
export async function showMenu(server: Server): Promise<void> {
  const isPaused = server.status.state === 'disabled';
  const choices = [
    ...(server.status.state === 'missing' ? [['Install the Server', 'install']] : []),
    isPaused ? ['Resume Completions', 'resume'] : ['Pause Completions', 'pause'],
    ['Choose Model…', 'chooseModel'],
    ['Explain the Context at the Cursor', 'explainContext'],
    ['Show Statistics', 'showStats'],
    ['Restart the Server', 'restart'],
    ['Show Log', 'showLog'],
  ].map(([label = '', command = '']) => ({ label, command }));
  const chosen = await vscode.window.showQuickPick(choices, {
    title: 'flash-lsp',
    placeHolder: server.status.message,
  });
  if (chosen !== undefined) {
    await vscode.commands.executeCommand(`flash-lsp.${chosen.command}`);
  }
}
