/** Installs the server that came with the extension into an environment of the extension's own. */

import * as vscode from 'vscode';

import { findPython, pythonOf } from './discovery';
import { offerModel } from './models';
import { ownEnvironment } from './places';
import type { Server } from './server';
import { runTask } from './tasks';

const NEEDS = 'Python 3.11 or newer, with venv and pip, and a C++ compiler (g++ 12 or clang 16)';

export async function install(context: vscode.ExtensionContext, server: Server): Promise<void> {
  const python = await findPython(process.env.PATH ?? '');
  if (python === undefined) {
    void vscode.window.showErrorMessage(`flash-lsp: no Python to install with; it needs ${NEEDS}`);
    return;
  }
  const environment = ownEnvironment(context);
  const detail = `It is built from the sources that came with this extension, with ${python}, into ${environment}. It needs ${NEEDS}.`;
  const question = 'Install the flash-lsp server?';
  const chosen = await vscode.window.showInformationMessage(
    question,
    { modal: true, detail },
    'Install',
  );
  if (chosen !== 'Install') {
    return;
  }
  const archive = context.asAbsolutePath('server/flash-lsp.tar.gz');
  const pip = [pythonOf(environment), '-m', 'pip', 'install', '--upgrade', archive];
  const isInstalled =
    (await runTask('make an environment', [python, '-m', 'venv', environment])) &&
    (await runTask('install the server', pip));
  if (isInstalled) {
    await server.restart();
    await offerModel(server);
  } else {
    void vscode.window.showErrorMessage(
      'flash-lsp: the installation failed; the terminal says why',
    );
  }
}
