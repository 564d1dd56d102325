/** The one server of this window: started, stopped, watched; others talk to it through `client`. */

import * as vscode from 'vscode';
import {
  CloseAction,
  type CloseHandlerResult,
  ErrorAction,
  LanguageClient,
  type LanguageClientOptions,
  type Middleware,
  type StaticFeature,
} from 'vscode-languageclient/node';

import { serverCommand } from './places';
import { ServerProcess } from './process';
import { DID_CHANGE_STATUS, type FlashStatus, STATUS } from './protocol';
import { MISSING, STOPPED, type Status } from './status_text';

const SETTLED_MS = 60_000;

/** Says which command asks the user for an instruction: the server then offers it as an action. */
const ASKING_FEATURE: StaticFeature = {
  fillClientCapabilities: (capabilities) => {
    capabilities.experimental = { flash: { askEditCommand: 'flash-lsp.edit' } };
  },
  initialize: () => {},
  getState: () => ({ kind: 'static' }),
  clear: () => {},
};

class MissingServerError extends Error {}

export class Server implements vscode.Disposable {
  readonly client: LanguageClient;
  private readonly statusEmitter = new vscode.EventEmitter<Status>();
  readonly onStatus = this.statusEmitter.event;
  private process: ServerProcess | undefined;
  private present: Status = STOPPED;

  constructor(
    private readonly context: vscode.ExtensionContext,
    middleware: Middleware,
    output: vscode.LogOutputChannel,
  ) {
    const options: LanguageClientOptions = {
      documentSelector: [{ scheme: 'file' }, { scheme: 'untitled' }],
      synchronize: { configurationSection: 'flashLsp' },
      outputChannel: output,
      middleware,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => this.closed(),
      },
    };
    this.client = new LanguageClient('flash-lsp', 'flash-lsp', () => this.spawn(), options);
    this.client.registerFeature(ASKING_FEATURE);
    this.client.onNotification(DID_CHANGE_STATUS, (status: FlashStatus) => this.tell(status));
  }

  get status(): Status {
    return this.present;
  }

  get isRunning(): boolean {
    return this.client.isRunning();
  }

  async start(): Promise<void> {
    this.tell({ ...STOPPED, state: 'starting', message: 'the server starts' });
    try {
      await this.client.start();
      this.tell(await this.client.sendRequest<FlashStatus>(STATUS));
    } catch (error) {
      await this.startFailed(error);
    }
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    if (this.client.needsStop()) {
      await this.client.stop();
    }
    this.tell(STOPPED);
  }

  /** The command line of flash-lsp, without `serve`, for what is not asked of a running server. */
  command(): Promise<string[] | undefined> {
    return serverCommand(this.context);
  }

  dispose(): void {
    this.statusEmitter.dispose();
  }

  private async spawn() {
    const command = await this.command();
    if (command === undefined) {
      throw new MissingServerError();
    }
    this.process = new ServerProcess(command);
    return this.process.child;
  }

  private async startFailed(error: unknown): Promise<void> {
    if (error instanceof MissingServerError) {
      this.tell(MISSING);
      await this.offer(MISSING.message, 'Install', 'flash-lsp.install');
      return;
    }
    const message = (await this.process?.reason()) ?? String(error);
    await this.failed(message);
  }

  /** Once more if it ran well before; a server that cannot run is left until the user acts. */
  private async closed(): Promise<CloseHandlerResult> {
    const reason = (await this.process?.reason()) ?? 'the connection was lost';
    const ranMs = Date.now() - (this.process?.startedMs ?? 0);
    if (ranMs > SETTLED_MS) {
      this.client.warn(`${reason}; it is started again`);
      return { action: CloseAction.Restart, handled: true };
    }
    void this.failed(reason);
    return { action: CloseAction.DoNotRestart, handled: true };
  }

  private async failed(message: string): Promise<void> {
    this.tell({ ...STOPPED, state: 'failed', message });
    await this.offer(message, 'Restart', 'flash-lsp.restart');
  }

  private async offer(message: string, action: string, command: string): Promise<void> {
    const chosen = await vscode.window.showErrorMessage(
      `flash-lsp: ${message}`,
      action,
      'Show Log',
    );
    if (chosen !== undefined) {
      await vscode.commands.executeCommand(chosen === action ? command : 'flash-lsp.showLog');
    }
  }

  private tell(status: Status): void {
    this.present = status;
    this.statusEmitter.fire(status);
  }
}
