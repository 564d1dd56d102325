--- Keys: <Plug> mappings, and the default keys that lead to them while a suggestion is visible. A
--- key does what it did before whenever there is nothing to accept.

local config = require('flash_lsp.config')
local suggestions = require('flash_lsp.suggestions')

local M = {}

---@class flash_lsp.Action
---@field run fun()
---@field desc string

---@type table<string, flash_lsp.Action>
local ACTIONS = {
  accept = {
    desc = 'Accept the suggestion',
    run = function() suggestions.accept('all') end,
  },
  accept_word = {
    desc = 'Accept the next word of the suggestion',
    run = function() suggestions.accept('word') end,
  },
  accept_line = {
    desc = 'Accept the next line of the suggestion',
    run = function() suggestions.accept('line') end,
  },
  next = {
    desc = 'Show the next suggestion',
    run = function() suggestions.cycle(1) end,
  },
  previous = {
    desc = 'Show the previous suggestion',
    run = function() suggestions.cycle(-1) end,
  },
  dismiss = {
    desc = 'Hide the suggestion',
    run = function() suggestions.dismiss() end,
  },
  suggest = {
    desc = 'Ask for a suggestion now',
    run = function() suggestions.suggest() end,
  },
}

---@param name string
---@return string
local function plug(name)
  return ('<Plug>(flash-lsp-%s)'):format((name:gsub('_', '-')))
end

--- Map every action to its <Plug> name, for mappings of the user's own.
function M.define_plugs()
  for name, action in pairs(ACTIONS) do
    vim.keymap.set('i', plug(name), action.run, { desc = 'flash-lsp: ' .. action.desc })
  end
end

--- Give what a key does now another name, so that it can still be done.
---@param buf integer
---@param lhs string
---@param other string
local function keep(buf, lhs, other)
  local present = vim.fn.maparg(lhs, 'i', false, true) --[[@as table<string, any>]]
  if vim.tbl_isempty(present) then
    vim.keymap.set('i', other, lhs, { buffer = buf })
    return
  end
  present.lhs, present.buffer = other, 1
  present.lhsraw, present.lhsrawalt = vim.keycode(other), nil
  vim.api.nvim_buf_call(buf, function()
    vim.fn.mapset('i', false, present)
  end)
end

--- Map the chosen keys in a buffer the server serves.
---@param buf integer
function M.attach(buf)
  local keymaps = config.options.keymaps
  if not keymaps or vim.b[buf].flash_lsp_keymaps then
    return
  end
  vim.b[buf].flash_lsp_keymaps = true
  for name, action in pairs(ACTIONS) do
    local lhs = keymaps[name]
    if lhs then
      local fallback = plug('otherwise-' .. name)
      keep(buf, lhs, fallback)
      vim.keymap.set('i', lhs, function()
        local is_ours = name == 'suggest' or suggestions.visible()
        return is_ours and plug(name) or fallback
      end, { buffer = buf, expr = true, remap = true, desc = 'flash-lsp: ' .. action.desc })
    end
  end
end

return M
