/** Where flash-lsp is: its command line, found without running anything but Python's import. */

import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, isAbsolute, join } from 'node:path';

const PROBE_MS = 20_000;
const EXTENSION = process.platform === 'win32' ? '.exe' : '';

export interface Places {
  /** What the user wrote; it is taken as it is. */
  command: readonly string[];
  /** Directories of programs, joined as in PATH. */
  path: string;
  /** Python interpreters that may have flash-lsp installed, best first. */
  pythons: readonly string[];
}

/** The command line to start flash-lsp with, without `serve`; undefined if it is nowhere. */
export async function findServer(places: Places): Promise<string[] | undefined> {
  if (places.command.length > 0) {
    return [...places.command];
  }
  const program = await findProgram('flash-lsp', places.path);
  if (program !== undefined) {
    return [program];
  }
  for (const python of places.pythons) {
    if (
      (await isExecutable(python)) &&
      (await succeeds(python, ['-P', '-c', 'import lsp_server']))
    ) {
      // Without -P, a folder of that name in the working directory would be run instead.
      return [python, '-P', '-m', 'lsp_server'];
    }
  }
  return undefined;
}

/** The first program of that name in the directories; relative ones would be the workspace's. */
export async function findProgram(name: string, path: string): Promise<string | undefined> {
  for (const folder of path.split(delimiter).filter(isAbsolute)) {
    const candidate = join(folder, name + EXTENSION);
    if (await isExecutable(candidate)) {
      return candidate;
    }
  }
  return undefined;
}

/** The interpreter of a virtual environment. */
export function pythonOf(environment: string): string {
  return process.platform === 'win32'
    ? join(environment, 'Scripts', 'python.exe')
    : join(environment, 'bin', 'python');
}

/** A Python that flash-lsp can be installed with: 3.11 or newer. */
export async function findPython(path: string): Promise<string | undefined> {
  const test = 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))';
  for (const name of [
    'python3',
    'python',
    'python3.14',
    'python3.13',
    'python3.12',
    'python3.11',
  ]) {
    const python = await findProgram(name, path);
    if (python !== undefined && (await succeeds(python, ['-I', '-c', test]))) {
      return python;
    }
  }
  return undefined;
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function succeeds(program: string, args: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(program, args, { cwd: homedir(), timeout: PROBE_MS }, (error) => resolve(!error));
  });
}
