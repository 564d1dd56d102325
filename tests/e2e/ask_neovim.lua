-- Runs inside Neovim (nvim --headless --clean -l): opens a file with the example configuration, asks
-- for an inline completion at a place and writes what came of it as JSON.
-- Arguments: configuration, file, line, character (both from zero), output file, server command...
local config, file, line, character, output = unpack(arg, 1, 5)
local command = vim.list_slice(arg, 6)

vim.cmd('filetype on')
dofile(config)
vim.lsp.config('flash-lsp', { cmd = command })
vim.cmd.edit(file)

local function client()
  return vim.lsp.get_clients({ name = 'flash-lsp', bufnr = 0 })[1]
end
assert(vim.wait(60000, function() return client() and client().initialized end), 'not attached')

local reply, problem = client():request_sync('textDocument/inlineCompletion', {
  textDocument = vim.lsp.util.make_text_document_params(),
  position = { line = tonumber(line), character = tonumber(character) },
  context = { triggerKind = 1 },
}, 60000, 0)
vim.fn.writefile({
  vim.json.encode({
    neovim = tostring(vim.version()),
    encoding = client().offset_encoding,
    error = problem or (reply and reply.err),
    items = reply and reply.result and reply.result.items,
  }),
}, output)
vim.cmd.quitall({ bang = true })
