/** The server's process: its start, and why it ended. */

import { type ChildProcess, spawn } from 'node:child_process';
import { homedir } from 'node:os';

const KEPT_CHARS = 4000;
const EXIT_MS = 2000;

export class ServerProcess {
  readonly child: ChildProcess;
  readonly startedMs = Date.now();
  private said = '';
  private readonly ended: Promise<string>;

  constructor(command: readonly string[]) {
    const [program = '', ...args] = command;
    // Not in the workspace: a relative program or module of it must never run.
    this.child = spawn(program, [...args, 'serve'], { cwd: homedir() });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.said = (this.said + chunk.toString('utf8')).slice(-KEPT_CHARS);
    });
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => resolve(error.message));
      this.child.once('exit', (code, signal) => resolve(reasonOf(code, signal, this.said)));
    });
  }

  /** Why the process ended, once it has. */
  async reason(): Promise<string> {
    const late = new Promise<string>((resolve) => {
      setTimeout(() => resolve('the server closed the connection'), EXIT_MS).unref();
    });
    return Promise.race([this.ended, late]);
  }
}

/** The end of a process in words, with the last line it said. */
export function reasonOf(code: number | null, signal: string | null, said: string): string {
  const how = signal === null ? `exit code ${code}` : signal;
  const last = said.trim().split('\n').at(-1)?.trim() ?? '';
  return `the server ended with ${how}${last === '' ? '' : `: ${last}`}`;
}
