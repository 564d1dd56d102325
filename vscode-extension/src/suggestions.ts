/** Ghost text: what was offered is remembered, so that the server hears what became of it. */

import * as vscode from 'vscode';
import type { Middleware } from 'vscode-languageclient';

import { acceptedUnits, isContinuation, type Offer } from './offers';
import { DID_PARTIALLY_ACCEPT_COMPLETION, DID_SHOW_COMPLETION } from './protocol';
import type { Server } from './server';

export class Suggestions {
  private offers: Offer[] = [];

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
    const editor = vscode.window.activeTextEditor;
    if (editor === undefined) {
      return;
    }
    const uri = editor.document.uri.toString();
    const cursor = editor.document.offsetAt(editor.selection.active);
    for (const offer of this.offers.filter((offer) => offer.uri === uri)) {
      const since = editor.document.positionAt(offer.offset);
      const inserted = editor.document.getText(new vscode.Range(since, editor.selection.active));
      const acceptedLength = acceptedUnits(offer, cursor, inserted);
      if (acceptedLength > 0) {
        this.report(DID_PARTIALLY_ACCEPT_COMPLETION, { item: offer.item, acceptedLength });
        return;
      }
    }
  }

  private offered(document: vscode.TextDocument, items: vscode.InlineCompletionItem[]): void {
    const last = this.offers[0];
    this.offers = items.flatMap((item) => offerOf(document, item));
    const first = this.offers[0];
    if (first === undefined) {
      return;
    }
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

function offerOf(document: vscode.TextDocument, item: vscode.InlineCompletionItem): Offer[] {
  if (typeof item.insertText !== 'string' || item.range === undefined) {
    return [];
  }
  return [
    {
      uri: document.uri.toString(),
      offset: document.offsetAt(item.range.start),
      text: item.insertText,
      item: { insertText: item.insertText, command: item.command },
    },
  ];
}
