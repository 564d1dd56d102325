/** Edits with an instruction: the answer streams into a diff view; the user applies or drops it. */

import * as vscode from 'vscode';
import type { Range, WorkspaceEdit } from 'vscode-languageclient';

import { type Preview, PreviewTexts } from './edit_preview';
import { EDIT, EDIT_COMMAND, type EditArguments, type EditEvent } from './protocol';
import type { Server } from './server';
import { applied, editsOf, wholeLines, withLines } from './text_edits';

/** What a code action or another extension may give; what is missing is taken from the editor. */
type EditRequest = Partial<EditArguments>;

/** An edit from its request until it is applied or dropped. */
interface Running {
  id: string;
  document: vscode.TextDocument;
  preview: Preview;
  said: string;
  range: Range;
  answer?: WorkspaceEdit;
}

export class Edits implements vscode.Disposable {
  private readonly texts = new PreviewTexts();
  private readonly running = new Map<string, Running>();
  private count = 0;

  constructor(private readonly server: Server) {
    server.listen(EDIT, (event: EditEvent) => this.progress(event));
  }

  /** Have lines rewritten and show the difference. */
  async run(request: EditRequest = {}): Promise<void> {
    const { client } = this.server; // before anything is asked or shown
    const target = await targetOf(request);
    if (target === undefined) {
      return;
    }
    const instruction = request.instruction ?? (await askInstruction());
    if (instruction === undefined || instruction.trim() === '') {
      return;
    }
    const { document, range } = target;
    const id = `vscode-${process.pid}-${(this.count += 1)}`;
    const preview = await this.texts.open(id, document.uri, document.getText(), instruction);
    const edit: Running = { id, document, preview, said: '', range };
    this.running.set(id, edit);
    await this.ask(edit, {
      uri: client.code2ProtocolConverter.asUri(document.uri),
      range,
      instruction,
      version: document.version,
      id,
      keepsCode: request.keepsCode ?? false,
    });
  }

  /** Put the shown edit into its document, as one step of undo. */
  async apply(uri?: vscode.Uri): Promise<void> {
    const edit = this.shown(uri);
    if (edit?.answer === undefined) {
      return;
    }
    const { document, answer } = edit;
    await edit.preview.close();
    if (document.isClosed || document.version !== editsOf(answer).version) {
      complain('nothing was changed: the text is another one by now; try again');
      return;
    }
    const changes = await this.server.client.protocol2CodeConverter.asWorkspaceEdit(answer);
    await vscode.window.showTextDocument(document);
    if (!(await vscode.workspace.applyEdit(changes))) {
      complain('nothing was changed: the editor refused the edit');
    }
  }

  async discard(uri?: vscode.Uri): Promise<void> {
    await this.shown(uri)?.preview.close();
  }

  dispose(): void {
    this.texts.dispose();
  }

  private async ask(edit: Running, argument: EditArguments): Promise<void> {
    const cancel = new vscode.CancellationTokenSource();
    edit.preview.closed(() => {
      cancel.cancel();
      this.finish(edit);
    });
    try {
      const answer = await vscode.window.withProgress(
        {
          location: vscode.ProgressLocation.Notification,
          title: 'flash-lsp edits',
          cancellable: true,
        },
        (progress, token) => {
          progress.report({ message: argument.instruction });
          token.onCancellationRequested(() => cancel.cancel());
          return this.server.client.sendRequest<WorkspaceEdit | null>(
            'workspace/executeCommand',
            { command: EDIT_COMMAND, arguments: [argument] },
            cancel.token,
          );
        },
      );
      await this.offer(edit, answer);
    } catch (error) {
      const isCancelled = cancel.token.isCancellationRequested; // closing cancels, too
      await edit.preview.close();
      if (!isCancelled) {
        complain(`nothing was changed: ${error instanceof Error ? error.message : String(error)}`);
      }
    } finally {
      cancel.dispose();
    }
  }

  private async offer(edit: Running, answer: WorkspaceEdit | null): Promise<void> {
    const { edits, version } = editsOf(answer ?? {});
    if (!this.running.has(edit.id)) {
      return;
    }
    if (answer === null || edits.length === 0) {
      await edit.preview.close();
      void vscode.window.showInformationMessage('flash-lsp: the model would change nothing');
    } else if (edit.document.version === version) {
      edit.answer = answer;
      edit.preview.update(applied(edit.document.getText(), edits));
      await setHasEdit(true);
    } else {
      await edit.preview.close();
      complain('nothing was changed: the text was changed meanwhile; try again');
    }
  }

  /** What was said so far, in place of the lines it is about. */
  private progress(event: EditEvent): void {
    const edit = this.running.get(event.id);
    if (edit === undefined || event.kind !== 'delta') {
      return;
    }
    edit.said += event.text ?? '';
    const { first, end } = wholeLines(edit.range);
    const lines = edit.said.endsWith('\n') ? edit.said : `${edit.said}\n`;
    edit.preview.update(withLines(edit.document.getText(), first, end, lines));
  }

  private shown(uri?: vscode.Uri): Running | undefined {
    const wanted = (uri ?? vscode.window.activeTextEditor?.document.uri)?.toString();
    return [...this.running.values()].find(({ preview }) => preview.after.toString() === wanted);
  }

  private finish(edit: Running): void {
    edit.preview.dispose();
    this.running.delete(edit.id);
    void setHasEdit([...this.running.values()].some((other) => other.answer !== undefined));
  }
}

/** The document and the range of a request, or of the cursor; undefined if there is neither. */
async function targetOf(
  request: EditRequest,
): Promise<{ document: vscode.TextDocument; range: Range } | undefined> {
  if (request.uri !== undefined && request.range !== undefined) {
    const document = await vscode.workspace.openTextDocument(vscode.Uri.parse(request.uri));
    return { document, range: request.range };
  }
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined) {
    complain('open a file first, and select what to edit');
    return undefined;
  }
  const { start, end } = editor.selection;
  return { document: editor.document, range: { start: { ...place(start) }, end: place(end) } };
}

function place(at: vscode.Position): { line: number; character: number } {
  return { line: at.line, character: at.character };
}

function askInstruction(): Thenable<string | undefined> {
  return vscode.window.showInputBox({
    title: 'Edit the selected lines',
    prompt: 'What to do with them',
    placeHolder: 'add type annotations',
  });
}

function setHasEdit(value: boolean): Thenable<unknown> {
  return vscode.commands.executeCommand('setContext', 'flash-lsp.hasEdit', value);
}

function complain(message: string): void {
  void vscode.window.showErrorMessage(`flash-lsp: ${message}`);
}
