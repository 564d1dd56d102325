--- flash-lsp in Neovim: what users call.

local client = require('flash_lsp.client')
local config = require('flash_lsp.config')
local status = require('flash_lsp.status')
local suggestions = require('flash_lsp.suggestions')

local M = {}

--- Choose options and start the server for every file from now on.
---@param options? table see |flash_lsp-setup|
function M.setup(options)
  config.choose(options)
  vim.cmd.runtime('plugin/flash_lsp.lua') -- where no plugin manager did so
  vim.lsp.config(client.NAME, client.config())
  vim.lsp.enable(client.NAME)
end

--- Whether a suggestion is visible at the cursor.
M.visible = suggestions.visible

--- Accept the visible suggestion; false if there is none.
---@return boolean
function M.accept()
  return suggestions.accept('all')
end

--- Accept the next word of it.
---@return boolean
function M.accept_word()
  return suggestions.accept('word')
end

--- Accept the next line of it.
---@return boolean
function M.accept_line()
  return suggestions.accept('line')
end

--- Show the next candidate.
---@return boolean
function M.next()
  return suggestions.cycle(1)
end

--- Show the previous candidate.
---@return boolean
function M.previous()
  return suggestions.cycle(-1)
end

--- Hide the suggestion until something is typed.
---@return boolean
function M.dismiss()
  return suggestions.dismiss()
end

--- Ask for a suggestion now.
M.suggest = suggestions.suggest

--- The engine's state in a few words, for a statusline: the model's name, "loading 42%", "failed".
M.status = status.line

--- All that is known of the engine's state.
---@return flash_lsp.Status
function M.state()
  return status.present
end

--- Offer nothing until `resume`.
function M.pause()
  client.set('enabled', false)
end

--- Offer suggestions again.
function M.resume()
  client.set('enabled', true)
end

--- Start the engine afresh, or the server if it has ended.
function M.restart()
  if client.find() then
    client.ask('flash/restart', nil, status.update)
  else
    vim.lsp.enable(client.NAME, false)
    vim.lsp.enable(client.NAME)
  end
end

--- Rewrite lines by an instruction, with a preview.
---@param first integer from 1
---@param last integer
---@param instruction? string asked for if there is none
function M.edit(first, last, instruction)
  require('flash_lsp.edit').run(first, last, instruction)
end

return M
