--- Suggestions at the cursor, whoever draws them: Neovim itself (0.12) or this plugin. Both drawers
--- have the same functions.

local config = require('flash_lsp.config')

local M = {}

---@class flash_lsp.Drawer
---@field attach fun(client: vim.lsp.Client, buf: integer)
---@field visible fun(buf: integer): boolean
---@field accept fun(buf: integer, piece: flash_lsp.Piece)
---@field cycle fun(buf: integer, step: integer)
---@field dismiss fun(buf: integer)
---@field suggest fun(buf: integer)

local DRAWERS = { plugin = 'flash_lsp.ghost', builtin = 'flash_lsp.builtin' }

-- Who draws in a buffer is settled when the server attaches to it.
local drawers = {} ---@type table<integer, flash_lsp.Drawer>

---@param client vim.lsp.Client
---@param buf integer
function M.attach(client, buf)
  local module = DRAWERS[config.ghost_text()]
  if not module or not client.server_capabilities.inlineCompletionProvider then
    return
  end
  drawers[buf] = require(module)
  drawers[buf].attach(client, buf)
  vim.api.nvim_create_autocmd('BufWipeout', {
    buffer = buf,
    group = vim.api.nvim_create_augroup('flash_lsp.suggestions.' .. buf, {}),
    callback = function()
      drawers[buf] = nil
    end,
  })
end

---@return flash_lsp.Drawer?, integer
local function here()
  local buf = vim.api.nvim_get_current_buf()
  return drawers[buf], buf
end

---@return boolean
function M.visible()
  local drawer, buf = here()
  return drawer ~= nil and drawer.visible(buf)
end

--- Call a drawer's function for the current buffer if a suggestion is visible there.
---@param name 'accept'|'cycle'|'dismiss'
---@param ... any
---@return boolean whether one was
local function act(name, ...)
  local drawer, buf = here()
  if not drawer or not drawer.visible(buf) then
    return false
  end
  drawer[name](buf, ...)
  return true
end

---@param piece flash_lsp.Piece
---@return boolean
function M.accept(piece)
  return act('accept', piece)
end

---@param step integer
---@return boolean
function M.cycle(step)
  return act('cycle', step)
end

---@return boolean
function M.dismiss()
  return act('dismiss')
end

function M.suggest()
  local drawer, buf = here()
  if drawer then
    drawer.suggest(buf)
  end
end

return M
