--- A floating window with text to read; `q` and <Esc> close it.

local text = require('flash_lsp.text')

local api = vim.api

---@class flash_lsp.Window
---@field buf integer
---@field win integer
local Window = {}
Window.__index = Window

local MARGIN = 4 -- columns and lines of the editor that stay visible around it
local LEAST_WIDTH = 50

---@class flash_lsp.WindowOptions
---@field title string
---@field lines string[] may hold line feeds
---@field filetype? string
---@field on_close? fun()

---@param lines string[]
---@return vim.api.keyset.win_config
local function layout(lines)
  local widest = LEAST_WIDTH
  for _, line in ipairs(lines) do
    widest = math.max(widest, vim.fn.strdisplaywidth(line))
  end
  local width = math.max(1, math.min(widest, vim.o.columns - MARGIN))
  local height = math.max(1, math.min(#lines, vim.o.lines - MARGIN - vim.o.cmdheight))
  return {
    relative = 'editor',
    width = width,
    height = height,
    row = math.max(0, math.floor((vim.o.lines - height) / 2) - 1),
    col = math.max(0, math.floor((vim.o.columns - width) / 2)),
  }
end

---@param title string
---@return string
local function shortened(title)
  local most = math.max(8, vim.o.columns - 2 * MARGIN)
  local is_long = vim.fn.strchars(title) > most
  return ' ' .. (is_long and vim.fn.strcharpart(title, 0, most - 1) .. '…' or title) .. ' '
end

---@param options flash_lsp.WindowOptions
---@return flash_lsp.Window
function Window.open(options)
  local buf = api.nvim_create_buf(false, true)
  local look = { style = 'minimal', border = 'rounded', title = shortened(options.title) }
  local win = api.nvim_open_win(buf, true, vim.tbl_extend('error', layout(options.lines), look))
  local self = setmetatable({ buf = buf, win = win }, Window)
  vim.bo[buf].bufhidden = 'wipe'
  self:set(options.lines, options.filetype)
  for _, key in ipairs({ 'q', '<Esc>' }) do
    self:on_key(key, 'Close', function()
      self:close()
    end)
  end
  api.nvim_create_autocmd('BufWipeout', {
    buffer = buf,
    once = true,
    callback = vim.schedule_wrap(options.on_close or function() end),
  })
  return self
end

---@return boolean
function Window:is_open()
  return api.nvim_win_is_valid(self.win) and api.nvim_buf_is_valid(self.buf)
end

--- Show other lines.
---@param lines string[]
---@param filetype? string
---@param title? string
function Window:set(lines, filetype, title)
  if not self:is_open() then
    return
  end
  lines = text.lines(table.concat(lines, '\n'))
  vim.bo[self.buf].modifiable = true
  api.nvim_buf_set_lines(self.buf, 0, -1, false, lines)
  vim.bo[self.buf].modifiable = false
  -- Highlighting only: as a file type it would have servers attach and plugins act.
  vim.bo[self.buf].syntax = filetype or vim.bo[self.buf].syntax
  local look = title and { title = shortened(title) } or {}
  api.nvim_win_set_config(self.win, vim.tbl_extend('error', layout(lines), look))
end

---@param key string
---@param desc string
---@param run fun()
function Window:on_key(key, desc, run)
  vim.keymap.set('n', key, run, { buffer = self.buf, nowait = true, desc = desc })
end

function Window:close()
  if api.nvim_win_is_valid(self.win) then
    api.nvim_win_close(self.win, true)
  end
end

return Window
