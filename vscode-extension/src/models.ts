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
  const folder = vscode.workspace.getConfiguration('flashLsp').get<string | null>('modelsDir');
  const where = folder ? ['--models-dir', folder] : [];
  const present = vscode.workspace.getConfiguration('flashLsp').get<string>('model');
  const chosen = await vscode.window.showQuickPick(choices(command, where, present), {
    title: 'The model that completes your code',
  });
  if (chosen === undefined) {
    return;
  }
  const name = chosen.model?.name ?? (await chooseFile());
  const isHere = chosen.model === undefined || chosen.model.path !== null;
  if (
    name !== undefined &&
    (isHere || (await runTask(`fetch ${name}`, [...command, 'models', 'fetch', name, ...where])))
  ) {
    await change('model', name);
    if (name === present) {
      await server.restart(); // it was missing, and the setting has not changed
    }
  }
}

async function choices(
  command: readonly string[],
  where: readonly string[],
  present: string | undefined,
): Promise<Choice[]> {
  const [program = '', ...args] = command;
  const listed = await promisify(execFile)(
    program,
    [...args, 'models', 'list', '--json', ...where],
    {
      cwd: homedir(),
    },
  );
  const { models } = JSON.parse(listed.stdout) as { models: KnownModel[] };
  const known = models.map((model) => ({
    label: model.name,
    description: model.name === present ? 'in use' : '',
    detail: `${Math.round(model.bytes / 1e6)} MB, ${model.licence}${model.path === null ? ', to be downloaded' : ''}`,
    model,
  }));
  return [...known, { label: 'A GGUF file…', detail: 'of the architectures qwen2 and llama' }];
}

async function chooseFile(): Promise<string | undefined> {
  const filters = { 'GGUF models': ['gguf'] };
  return (await vscode.window.showOpenDialog({ filters, openLabel: 'Use' }))?.[0]?.fsPath;
}
