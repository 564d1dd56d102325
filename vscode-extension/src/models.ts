/** Which model: one of those flash-lsp knows, downloaded if need be, or a file. */

import { execFile } from 'node:child_process';
import { homedir } from 'node:os';
import { promisify } from 'node:util';
import * as vscode from 'vscode';

import type { Server } from './server';
import { change } from './settings';
import { runTask } from './tasks';

/** A model as `flash-lsp models list --json` describes it; `path` is null while it is not here. */
interface KnownModel {
  name: string;
  path: string | null;
  bytes: number;
  licence: string;
}

type Choice = vscode.QuickPickItem & { model?: KnownModel };

export async function chooseModel(server: Server): Promise<void> {
  const command = await server.command();
  if (command === undefined) {
    await vscode.commands.executeCommand('flash-lsp.install');
    return;
  }
  const chosen = await vscode.window.showQuickPick(choices(command), {
    title: 'The model that completes your code',
  });
  if (chosen === undefined) {
    return;
  }
  const name = chosen.model?.name ?? (await chooseFile());
  const isHere = chosen.model === undefined || chosen.model.path !== null;
  if (name !== undefined && (isHere || (await fetch(command, name)))) {
    await use(server, name);
  }
}

/** Offer to download the model that is set, where it is one that is not here yet. */
export async function offerModel(server: Server): Promise<void> {
  const command = await server.command();
  if (command === undefined) {
    return;
  }
  const missing = (await knownModels(command)).find(
    (model) => model.name === presentModel() && model.path === null,
  );
  if (missing === undefined) {
    return;
  }
  const question = `flash-lsp: completions need the model ${missing.name}, ${megabytes(missing)} once.`;
  const chosen = await vscode.window.showInformationMessage(
    question,
    'Download',
    'Choose Another…',
  );
  if (chosen === 'Choose Another…') {
    await chooseModel(server);
  } else if (chosen === 'Download' && (await fetch(command, missing.name))) {
    await use(server, missing.name);
  }
}

async function use(server: Server, name: string): Promise<void> {
  if (name === presentModel()) {
    await server.restart(); // it was missing, and the setting does not change
  } else {
    await change('model', name);
  }
}

function fetch(command: readonly string[], name: string): Promise<boolean> {
  return runTask(`fetch ${name}`, [...command, 'models', 'fetch', name, ...modelsFolder()]);
}

async function choices(command: readonly string[]): Promise<Choice[]> {
  const known = (await knownModels(command)).map((model) => ({
    label: model.name,
    description: model.name === presentModel() ? 'in use' : '',
    detail: `${megabytes(model)}, ${model.licence}${model.path === null ? ', to be downloaded' : ''}`,
    model,
  }));
  return [...known, { label: 'A GGUF file…', detail: 'of the architectures qwen2 and llama' }];
}

async function knownModels(command: readonly string[]): Promise<KnownModel[]> {
  const [program = '', ...args] = command;
  const list = [...args, 'models', 'list', '--json', ...modelsFolder()];
  const listed = await promisify(execFile)(program, list, { cwd: homedir() });
  return (JSON.parse(listed.stdout) as { models: KnownModel[] }).models;
}

function presentModel(): string | undefined {
  return vscode.workspace.getConfiguration('flashLsp').get<string>('model');
}

function modelsFolder(): string[] {
  const folder = vscode.workspace.getConfiguration('flashLsp').get<string | null>('modelsDir');
  return folder ? ['--models-dir', folder] : [];
}

function megabytes(model: KnownModel): string {
  return `${Math.round(model.bytes / 1e6)} MB`;
}

async function chooseFile(): Promise<string | undefined> {
  const filters = { 'GGUF models': ['gguf'] };
  return (await vscode.window.showOpenDialog({ filters, openLabel: 'Use' }))?.[0]?.fsPath;
}
