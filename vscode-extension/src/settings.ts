/** Changes a setting of the server where the user has it already. */

import * as vscode from 'vscode';

export async function change(name: string, value: unknown): Promise<void> {
  const section = vscode.workspace.getConfiguration('flashLsp');
  const isOfWorkspace = section.inspect(name)?.workspaceValue !== undefined;
  const target = isOfWorkspace
    ? vscode.ConfigurationTarget.Workspace
    : vscode.ConfigurationTarget.Global;
  await section.update(name, value, target);
}
