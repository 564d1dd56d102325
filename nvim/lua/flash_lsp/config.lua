--- What a user may choose, checked once. The server's own settings pass through unread: the server
--- knows them all, and warns of the ones it does not know.

local M = {}

---@alias flash_lsp.GhostText 'auto'|'plugin'|'builtin'|'off'

---@class flash_lsp.Keymaps
---@field accept string|false
---@field accept_word string|false
---@field accept_line string|false
---@field next string|false
---@field previous string|false
---@field dismiss string|false
---@field suggest string|false

---@class flash_lsp.Options
---@field cmd string[] starts the server
---@field settings table<string, any> the server's settings, without their prefix "flashLsp."
---@field filetypes? string[] nil: every file
---@field root_markers string[]
---@field ghost_text flash_lsp.GhostText who draws suggestions
---@field keymaps flash_lsp.Keymaps|false

---@type flash_lsp.Options
M.defaults = {
  cmd = { 'flash-lsp', 'serve' },
  settings = {},
  filetypes = nil,
  root_markers = { '.git' },
  ghost_text = 'auto',
  keymaps = {
    accept = '<Tab>',
    accept_word = '<M-Right>',
    accept_line = '<M-C-Right>',
    next = '<M-]>',
    previous = '<M-[>',
    dismiss = '<C-]>',
    suggest = [[<M-\>]],
  },
}

M.options = vim.deepcopy(M.defaults)

local GHOST_TEXTS = { 'auto', 'plugin', 'builtin', 'off' }

---@param name string
---@param expected string
---@param found any
local function refuse(name, expected, found)
  local shown = vim.inspect(found, { newline = ' ', indent = '' })
  error(('flash_lsp.setup: %s is %s, expected %s'):format(name, shown, expected), 0)
end

---@param given table
---@param known table<string, any>
---@param prefix string
local function check_names(given, known, prefix)
  for name in pairs(given) do
    if not known[name] then
      local names = vim.tbl_keys(known)
      table.sort(names)
      local message = 'flash_lsp.setup: unknown option %s%s; known: %s'
      error(message:format(prefix, tostring(name), table.concat(names, ', ')), 0)
    end
  end
end

---@param name string
---@param value any
local function check_strings(name, value)
  local is_list = type(value) == 'table' and vim.islist(value)
  if not is_list or not vim.iter(value):all(function(item) return type(item) == 'string' end) then
    refuse(name, 'a list of strings', value)
  end
end

---@param keymaps any
local function check_keymaps(keymaps)
  if keymaps == false then
    return
  elseif type(keymaps) ~= 'table' then
    refuse('keymaps', 'a table or false', keymaps)
  end
  check_names(keymaps, M.defaults.keymaps --[[@as table]], 'keymaps.')
  for name, lhs in pairs(keymaps) do
    if lhs ~= false and (type(lhs) ~= 'string' or lhs == '') then
      refuse('keymaps.' .. name, 'a key such as "<Tab>", or false', lhs)
    end
  end
end

local CHECKS = {
  cmd = function(cmd)
    check_strings('cmd', cmd)
    if #cmd == 0 then
      refuse('cmd', 'a program and its arguments', cmd)
    end
  end,
  settings = function(settings)
    if type(settings) ~= 'table' or (next(settings) ~= nil and vim.islist(settings)) then
      refuse('settings', 'a table such as { model = "…" }', settings)
    end
  end,
  filetypes = function(filetypes)
    check_strings('filetypes', filetypes)
  end,
  root_markers = function(markers)
    check_strings('root_markers', markers)
  end,
  ghost_text = function(value)
    if not vim.list_contains(GHOST_TEXTS, value) then
      refuse('ghost_text', 'one of ' .. table.concat(GHOST_TEXTS, ', '), value)
    end
    if value == 'builtin' and not vim.lsp.inline_completion then
      refuse('ghost_text', '"plugin" or "auto" before Neovim 0.12', value)
    end
  end,
  keymaps = check_keymaps,
}

--- Take a user's choices over the defaults. Raises an error that names the option that is wrong.
---@param given? table
---@return flash_lsp.Options
function M.choose(given)
  if given ~= nil and type(given) ~= 'table' then
    refuse('the argument', 'a table', given)
  end
  given = given or {}
  check_names(given, CHECKS, '')
  for name, value in pairs(given) do
    CHECKS[name](value)
  end
  local options = vim.tbl_extend('force', vim.deepcopy(M.defaults), given)
  if type(given.keymaps) == 'table' then
    options.keymaps = vim.tbl_extend('force', M.defaults.keymaps --[[@as table]], given.keymaps)
  end
  M.options = options
  return options
end

--- Who draws suggestions in this Neovim.
---@return 'plugin'|'builtin'|'off'
function M.ghost_text()
  local chosen = M.options.ghost_text
  if chosen == 'auto' then
    return vim.lsp.inline_completion and 'builtin' or 'plugin'
  end
  return chosen
end

return M
