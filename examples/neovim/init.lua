-- flash-lsp in Neovim 0.11 and later: put this into your init.lua.
vim.lsp.config('flash-lsp', {
  cmd = { 'flash-lsp', 'serve' },
  root_markers = { '.git' },
  -- No filetypes: the server attaches to every file that has one.
})
vim.lsp.enable('flash-lsp')

if vim.lsp.inline_completion then
  -- Neovim 0.12: ghost text while typing, <Tab> accepts it.
  vim.lsp.inline_completion.enable(true)
  vim.keymap.set('i', '<Tab>', function()
    if not vim.lsp.inline_completion.get() then return '<Tab>' end
  end, { expr = true, desc = 'accept the completion' })
else
  -- Neovim 0.11 has no ghost text: completions are items of the popup menu, <C-x><C-o> opens it.
  vim.api.nvim_create_autocmd('LspAttach', {
    callback = function(event)
      vim.lsp.completion.enable(true, event.data.client_id, event.buf, {})
    end,
  })
end
