import assert from 'node:assert/strict';
import { test } from 'node:test';

import { reasonOf, ServerProcess } from '../src/process';

test('the reason is the code and the last line that was said', async () => {
  const server = new ServerProcess(['/bin/sh', '-c', 'echo first >&2; echo no model >&2; exit 3']);
  assert.equal(await server.reason(), 'the server ended with exit code 3: no model');
});

test('a program that is not there is a reason, too', async () => {
  assert.match(await new ServerProcess(['/nowhere/flash-lsp']).reason(), /ENOENT/);
});

test('a killed server names the signal', () => {
  assert.equal(reasonOf(null, 'SIGKILL', ''), 'the server ended with SIGKILL');
});
