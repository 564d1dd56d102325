/** The one server of this window: started, stopped, watched; others talk to it through `client`. */

import * as vscode from 'vscode';
import {
  CloseAction,
  type CloseHandlerResult,
  ErrorAction,
  type GenericNotificationHandler,
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

export class Server implements vscode.Disposable {
  private readonly statusEmitter = new vscode.EventEmitter<Status>();
  readonly onStatus = this.statusEmitter.event;
  private readonly listeners = new Map<string, GenericNotificationHandler>();
  private current: LanguageClient | undefined;
  private process: ServerProcess | undefined;
  private present: Status = STOPPED;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly middleware: Middleware,
    private readonly output: vscode.LogOutputChannel,
  ) {
    this.listen(DID_CHANGE_STATUS, (status: FlashStatus) => this.tell(status));
  }

  /** Hear of a notification from every server that is started from now on. */
  listen<T>(method: string, listener: (params: T) => void): void {
    this.listeners.set(method, listener);
  }

  get status(): Status {
    return this.present;
  }

  get isRunning(): boolean {
    return this.current?.isRunning() ?? false;
  }

  /** The connection to the server; without one, the error that is thrown tells the user so. */
  get client(): LanguageClient {
    if (this.current === undefined || !this.isRunning) {
      throw new Error(`flash-lsp: ${this.present.message}`);
    }
    return this.current;
  }

  async start(): Promise<void> {
    this.tell({ ...STOPPED, state: 'starting', message: 'the server starts' });
    const command = await this.command();
    if (command === undefined) {
      this.tell(MISSING);
      void this.offer(MISSING.message, 'Install', 'flash-lsp.install');
      return;
    }
    // A client whose start failed cannot be started again.
    const client = this.clientOf(command);
    this.current = client;
    try {
      await client.start();
      this.tell(await client.sendRequest<FlashStatus>(STATUS));
    } catch (error) {
      this.failed((await this.process?.reason()) ?? String(error));
      this.process?.child.kill();
    }
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    const client = this.current;
    this.current = undefined;
    if (client?.isRunning()) {
      await client.stop();
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

  private clientOf(command: readonly string[]): LanguageClient {
    const options: LanguageClientOptions = {
      documentSelector: [{ scheme: 'file' }, { scheme: 'untitled' }],
      synchronize: { configurationSection: 'flashLsp' },
      outputChannel: this.output,
      middleware: this.middleware,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => this.closed(),
      },
    };
    const spawn = async () => {
      this.process = new ServerProcess(command);
      return this.process.child;
    };
    const client = new LanguageClient('flash-lsp', 'flash-lsp', spawn, options);
    client.registerFeature(ASKING_FEATURE);
    for (const [method, listener] of this.listeners) {
      client.onNotification(method, listener);
    }
    return client;
  }

  /** Once more if it ran well before; a server that cannot run is left until the user acts. */
  private async closed(): Promise<CloseHandlerResult> {
    const reason = (await this.process?.reason()) ?? 'the connection was lost';
    const ranMs = Date.now() - (this.process?.startedMs ?? 0);
    if (ranMs > SETTLED_MS) {
      this.output.warn(`${reason}; it is started again`);
      return { action: CloseAction.Restart, handled: true };
    }
    this.failed(reason);
    return { action: CloseAction.DoNotRestart, handled: true };
  }

  private failed(message: string): void {
    if (this.present.state !== 'failed') {
      this.tell({ ...STOPPED, state: 'failed', message });
      void this.offer(message, 'Restart', 'flash-lsp.restart');
    }
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
