/** The extension: puts its parts together and gives each command its name. */

import * as vscode from 'vscode';
import type { Middleware } from 'vscode-languageclient/node';

import { ContextView } from './context';
import { Edits } from './edit';
import { install } from './install';
import { chooseModel } from './models';
import { NextEdits } from './next_edit';
import { DID_FOCUS, EDIT_COMMAND, type EditArguments } from './protocol';
import { Server } from './server';
import { change } from './settings';
import { StatsPanel } from './stats';
import { showMenu, StatusItem } from './status';
import { Suggestions } from './suggestions';

let running: Server | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const output = vscode.window.createOutputChannel('flash-lsp', { log: true });
  const suggestions = new Suggestions(
    () => server,
    () => status.wrote(),
  );
  const middleware: Middleware = {
    provideInlineCompletionItems: suggestions.provideInlineCompletionItems,
    // A code action's edit is shown before it is applied, like any other.
    executeCommand: (command, args, next) =>
      command === EDIT_COMMAND ? edits.run(args[0] as EditArguments) : next(command, args),
  };
  const server = new Server(context, middleware, output);
  running = server;
  const status = new StatusItem(server);
  const edits = new Edits(server);
  const nextEdits = new NextEdits(server);
  const contextView = new ContextView(server);
  const stats = new StatsPanel(server);
  const commands: Record<string, (...args: never[]) => unknown> = {
    edit: (request?: Partial<EditArguments>) => edits.run(request),
    applyEdit: (uri?: vscode.Uri) => edits.apply(uri),
    discardEdit: (uri?: vscode.Uri) => edits.discard(uri),
    acceptNextWord: () => suggestions.acceptPart('editor.action.inlineSuggest.acceptNextWord'),
    acceptNextLine: () => suggestions.acceptPart('editor.action.inlineSuggest.acceptNextLine'),
    acceptNextEdit: () => nextEdits.accept(),
    dismissNextEdit: () => nextEdits.dismiss(),
    explainContext: () => contextView.explain(),
    chooseModel: () => chooseModel(server),
    pause: () => change('enabled', false),
    resume: () => change('enabled', true),
    showStats: () => stats.show(),
    restart: () => server.restart(),
    install: () => install(context, server),
    showLog: () => output.show(),
    menu: () => showMenu(server),
  };
  context.subscriptions.push(
    ...[output, suggestions, server, status, edits, nextEdits, contextView, stats],
    server.onStatus((now) => status.show(now)),
    ...Object.entries(commands).map(([name, run]) =>
      vscode.commands.registerCommand(`flash-lsp.${name}`, run),
    ),
    vscode.window.onDidChangeActiveTextEditor((editor) => tellFocus(server, editor)),
    vscode.workspace.onDidGrantWorkspaceTrust(() => startIfMissing(server)),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration('flash-lsp.command')) {
        void server.restart();
      }
    }),
  );
  await server.start();
}

export async function deactivate(): Promise<void> {
  await running?.stop();
}

/** A trusted workspace may bring the Python that has the server. */
async function startIfMissing(server: Server): Promise<void> {
  if (server.status.state === 'missing') {
    await server.start();
  }
}

function tellFocus(server: Server, editor: vscode.TextEditor | undefined): void {
  if (server.isRunning && editor?.document.uri.scheme === 'file') {
    const uri = server.client.code2ProtocolConverter.asUri(editor.document.uri);
    void server.client.sendNotification(DID_FOCUS, { textDocument: { uri } });
  }
}
