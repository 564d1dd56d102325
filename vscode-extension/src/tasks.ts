/** Programs that take a while, run where the user sees what they say. */

import * as vscode from 'vscode';

/** Run a program in a terminal; whether it succeeded. */
export async function runTask(name: string, command: readonly string[]): Promise<boolean> {
  const [program = '', ...args] = command;
  const task = new vscode.Task(
    { type: 'flash-lsp', name },
    vscode.TaskScope.Global,
    name,
    'flash-lsp',
    new vscode.ProcessExecution(program, args),
  );
  task.presentationOptions = { reveal: vscode.TaskRevealKind.Always, focus: false, echo: true };
  const execution = await vscode.tasks.executeTask(task);
  return new Promise((resolve) => {
    const watch = vscode.tasks.onDidEndTaskProcess((event) => {
      if (event.execution === execution) {
        watch.dispose();
        resolve(event.exitCode === 0);
      }
    });
  });
}
