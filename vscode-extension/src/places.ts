/** Where this window may have flash-lsp: its settings, its folders, its Python extension. */

import * as vscode from 'vscode';

import { findProgram, findServer, pythonOf } from './discovery';

/** What the Python extension offers to others; the part used here. */
interface PythonApi {
  environments?: { getActiveEnvironmentPath(): { path: string } };
}

/** The extension's own environment, which `Install the Server` fills. */
export function ownEnvironment(context: vscode.ExtensionContext): string {
  return vscode.Uri.joinPath(context.globalStorageUri, 'server').fsPath;
}

/** The command line of flash-lsp for this window, without `serve`. */
export async function serverCommand(
  context: vscode.ExtensionContext,
): Promise<string[] | undefined> {
  const path = process.env.PATH ?? '';
  return findServer({
    command: vscode.workspace.getConfiguration('flash-lsp').get<string[]>('command') ?? [],
    path,
    pythons: [
      pythonOf(ownEnvironment(context)),
      ...(await workspacePythons()),
      (await findProgram('python3', path)) ?? '',
    ],
  });
}

/** A repository could bring a Python of its own: none is started before the user trusts it. */
async function workspacePythons(): Promise<string[]> {
  if (!vscode.workspace.isTrusted) {
    return [];
  }
  const folders = (vscode.workspace.workspaceFolders ?? []).flatMap((folder) =>
    ['.venv', 'venv'].map((name) => pythonOf(vscode.Uri.joinPath(folder.uri, name).fsPath)),
  );
  const active = await activePython();
  return active === undefined ? folders : [active, ...folders];
}

async function activePython(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonApi>('ms-python.python');
  try {
    const api = await extension?.activate();
    return api?.environments?.getActiveEnvironmentPath().path;
  } catch {
    return undefined; // its failure is its own to tell
  }
}
