-- Defines the command and the <Plug> mappings; everything else is loaded when it is first used.
if vim.g.loaded_flash_lsp then
  return
end
vim.g.loaded_flash_lsp = true

vim.api.nvim_create_user_command('FlashLsp', function(call)
  require('flash_lsp.commands').run(call)
end, {
  nargs = '+',
  range = true,
  desc = 'flash-lsp: edits, status, statistics',
  complete = function(lead, line)
    return require('flash_lsp.commands').complete(lead, line)
  end,
})

require('flash_lsp.keymaps').define_plugs()
