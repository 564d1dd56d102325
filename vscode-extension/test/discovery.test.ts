import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test } from 'node:test';

import { findProgram, findServer } from '../src/discovery';

/** A folder with a program that succeeds or fails. */
async function folderWith(name: string, exitCode: number): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'flash-lsp-'));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), `#!/bin/sh\nexit ${exitCode}\n`);
  await chmod(join(folder, name), 0o755);
  return folder;
}

test('what the user wrote is taken as it is', async () => {
  const path = await folderWith('flash-lsp', 0);
  const found = await findServer({
    command: ['/my/python', '-m', 'lsp_server'],
    path,
    pythons: [],
  });
  assert.deepEqual(found, ['/my/python', '-m', 'lsp_server']);
});

test('the program on PATH comes before any Python', async () => {
  const path = await folderWith('flash-lsp', 0);
  const python = join(await folderWith('python', 0), 'python');
  const found = await findServer({ command: [], path, pythons: [python] });
  assert.deepEqual(found, [join(path, 'flash-lsp')]);
});

test('a Python is taken only if it can import the server', async () => {
  const without = join(await folderWith('python', 1), 'python');
  const having = join(await folderWith('python', 0), 'python');
  const found = await findServer({ command: [], path: '', pythons: ['', without, having] });
  assert.deepEqual(found, [having, '-P', '-m', 'lsp_server']);
  assert.equal(await findServer({ command: [], path: '', pythons: [without] }), undefined);
});

test('a relative folder of PATH is the workspace’s and is left out', async () => {
  const folder = await folderWith('flash-lsp', 0);
  assert.equal(await findProgram('flash-lsp', relative(process.cwd(), folder)), undefined);
});
