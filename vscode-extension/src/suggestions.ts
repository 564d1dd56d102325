/** Ghost text: what was offered is remembered, so that the server hears what became of it. */

import * as vscode from 'vscode';
import type { Middleware } from 'vscode-languageclient';

import { acceptedUnits, isContinuation, isWhole, type Offer } from './offers';
import { DID_PARTIALLY_ACCEPT_COMPLETION, DID_SHOW_COMPLETION } from './protocol';
import type { Server } from './server';

const ACCEPTED = 'flash-lsp.completionAccepted';
/** The editor keeps a suggestion while it is typed, for which it asks at every key. */
const REMEMBERED = 24;

export class Suggestions implements vscode.Disposable {
  /** Newest first. */
  private offers: Offer[] = [];
  private readonly command = vscode.commands.registerCommand(ACCEPTED, () => this.accepted());

  /** `onOffered` hears of every answer with text. */
  constructor(
    private readonly server: () => Server,
    private readonly onOffered: () => void,
  ) {}

  readonly provideInlineCompletionItems: NonNullable<Middleware['provideInlineCompletionItems']> =
    async (document, position, context, token, next) => {
      const answer = await next(document, position, context, token);
      const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
      if (items.length > 0 && !token.isCancellationRequested) {
        this.offered(document, items);
      }
      return answer;
    };

  /** Accept a part of the suggestion by the editor's own command, and report how much it was. */
  async acceptPart(command: string): Promise<void> {
    await vscode.commands.executeCommand(command);
    for (const { offer, inserted } of this.atCursor()) {
      const acceptedLength = acceptedUnits(offer, inserted);
      if (acceptedLength > 0) {
        this.report(DID_PARTIALLY_ACCEPT_COMPLETION, { item: offer.item, acceptedLength });
        return;
      }
    }
  }

  dispose(): void {
    this.command.dispose();
  }

  /** Have the server run the command of the newest offer that ends at the cursor.

  The editor may hold an older answer with the same end, of which parts were reported by the newer.
  */
  private async accepted(): Promise<void> {
    const found = this.atCursor().find(({ offer, inserted }) => isWhole(offer, inserted));
    const server = this.server();
    if (found !== undefined && server.isRunning) {
      const { command, arguments: args } = found.offer.item.command;
      await server.client.sendRequest('workspace/executeCommand', { command, arguments: args });
    }
  }

  /** What lies between the start of each offer and the cursor. */
  private atCursor(): { offer: Offer; inserted: string }[] {
    const editor = vscode.window.activeTextEditor;
    if (editor === undefined) {
      return [];
    }
    const { document } = editor;
    const uri = document.uri.toString();
    return this.offers
      .filter((offer) => offer.uri === uri)
      .map((offer) => {
        const span = new vscode.Range(document.positionAt(offer.offset), editor.selection.active);
        return { offer, inserted: document.getText(span).replaceAll('\r\n', '\n') };
      });
  }

  private offered(document: vscode.TextDocument, items: vscode.InlineCompletionItem[]): void {
    const last = this.offers[0];
    const offers = items.flatMap((item) => offerOf(document, item));
    const first = offers[0];
    if (first === undefined) {
      return;
    }
    this.offers = [...offers, ...this.offers].slice(0, REMEMBERED);
    this.onOffered();
    const typed =
      last === undefined
        ? ''
        : document.getText(
            new vscode.Range(document.positionAt(last.offset), document.positionAt(first.offset)),
          );
    // A stable extension is not told what is shown: what was answered in time is, nearly always.
    if (!isContinuation(last, first, typed)) {
      this.report(DID_SHOW_COMPLETION, { item: first.item });
    }
  }

  private report(method: string, params: object): void {
    const server = this.server();
    if (server.isRunning) {
      void server.client.sendNotification(method, params);
    }
  }
}

/** The offer in an item of the server, which gets a command of ours in the place of its own. */
function offerOf(document: vscode.TextDocument, item: vscode.InlineCompletionItem): Offer[] {
  const { insertText, range, command } = item;
  if (typeof insertText !== 'string' || range === undefined || command === undefined) {
    return [];
  }
  item.command = { title: command.title, command: ACCEPTED };
  return [
    {
      uri: document.uri.toString(),
      offset: document.offsetAt(range.start),
      text: insertText.replaceAll('\r\n', '\n'),
      item: { insertText, command },
    },
  ];
}
