--- :FlashLsp and what it shows.

local Window = require('flash_lsp.window')
local client = require('flash_lsp.client')
local flash = require('flash_lsp')
local log = require('flash_lsp.log')

local M = {}

local METHOD_NOT_FOUND = -32601

---@param title string
---@param lines string[]
local function show(title, lines)
  Window.open({ title = title, lines = lines })
end

--- A tree of values as indented lines, for what the server may extend at any time.
---@param value any
---@param indent string
---@param lines string[]
---@return string[]
local function described(value, indent, lines)
  local names = vim.tbl_keys(value)
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  if vim.islist(value) then
    names = vim.tbl_keys(value)
  end
  for _, name in ipairs(names) do
    local inner = value[name]
    if type(inner) == 'table' and next(inner) ~= nil then
      lines[#lines + 1] = ('%s%s:'):format(indent, name)
      described(inner, indent .. '  ', lines)
    elseif type(inner) ~= 'table' and inner ~= vim.NIL then
      local shown = tostring(inner):gsub('\n', '\\n')
      lines[#lines + 1] = ('%s%s: %s'):format(indent, name, shown)
    end
  end
  return lines
end

---@param part integer
---@param whole integer
---@return string
local function share(part, whole)
  return whole > 0 and (' (%d%%)'):format(math.floor(100 * part / whole + 0.5)) or ''
end

local function show_status()
  local status, found = flash.state(), client.find()
  local lines = { ('engine: %s, %s'):format(status.state, status.message) }
  local model = status.model
  if model then
    vim.list_extend(lines, {
      ('model: %s (%s)'):format(model.name, model.path),
      ('runs on: %s, %d threads'):format(model.backend, model.threads),
      ('context: %d tokens'):format(model.contextTokens),
      ('memory: %.0f MiB'):format(model.memoryBytes / 2 ^ 20),
    })
    for _, notice in ipairs(model.notices) do
      lines[#lines + 1] = 'notice: ' .. notice
    end
  end
  if found then
    lines[#lines + 1] = ('server: %s'):format(table.concat(found.config.cmd --[[@as string[] ]], ' '))
    lines[#lines + 1] = ('positions: %s'):format(found.offset_encoding)
  end
  show('flash-lsp status', lines)
end

local function show_stats()
  client.ask('flash/stats', nil, function(stats)
    local n_shown = stats.nShown
    local lines = {
      ('shown: %d'):format(n_shown),
      ('accepted: %d%s'):format(stats.nAccepted, share(stats.nAccepted, n_shown)),
      ('accepted in part: %d'):format(stats.nPartiallyAccepted),
    }
    if stats.keptRate and stats.keptRate ~= vim.NIL then
      local line = 'kept 30 s later: %d%% of the characters accepted'
      lines[#lines + 1] = line:format(math.floor(100 * stats.keptRate + 0.5))
    end
    local last = stats.recent[#stats.recent]
    if last then
      local line = 'last: %s after %.0f ms (prefill %.0f, decode %.0f), %d tokens'
      lines[#lines + 1] =
        line:format(last.outcome, last.totalMs, last.prefillMs or 0, last.decodeMs or 0, last.tokens or 0)
    end
    described({ outcomes = stats.outcomes, edits = stats.edits }, '', lines)
    if stats.engine ~= vim.NIL then
      described({ engine = stats.engine }, '', lines)
    end
    show('flash-lsp statistics, kept on this machine', lines)
  end)
end

local function show_log()
  local found = vim.lsp.log.get_filename and vim.lsp.log.get_filename() or vim.lsp.get_log_path()
  local lines = vim.list_extend({ 'Neovim\'s own log: ' .. found }, log.lines)
  show('flash-lsp messages', lines)
end

--- What the model was shown of the workspace for the place of the cursor.
local function show_context()
  local found = client.find(vim.api.nvim_get_current_buf())
  if not found then
    client.complain('the server does not serve this buffer; :checkhealth flash_lsp says why')
    return
  end
  local params = vim.lsp.util.make_position_params(0, found.offset_encoding)
  found:request('flash/context', params, function(err, result)
    if err and err.code == METHOD_NOT_FOUND then
      client.complain('this server shows the model no more than the file at the cursor')
    elseif err then
      client.complain(err.message)
    else
      show('flash-lsp context', described(result, '', {}))
    end
  end)
end

---@type table<string, fun(call: vim.api.keyset.create_user_command.command_args)>
local COMMANDS = {
  edit = function(call)
    flash.edit(call.line1, call.line2, vim.trim(call.args:gsub('^%s*edit', '', 1)))
  end,
  status = show_status,
  stats = show_stats,
  restart = flash.restart,
  pause = flash.pause,
  resume = flash.resume,
  log = show_log,
  context = show_context,
}

---@return string[]
local function names()
  local known = vim.tbl_keys(COMMANDS)
  table.sort(known)
  return known
end

---@param call vim.api.keyset.create_user_command.command_args
function M.run(call)
  local run = COMMANDS[call.fargs[1]]
  if run then
    run(call)
  else
    local message = "unknown command '%s'; known: %s"
    client.complain(message:format(call.fargs[1], table.concat(names(), ', ')))
  end
end

---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  if line:match('FlashLsp%s+%S+%s') then
    return {}
  end
  return vim.tbl_filter(function(name)
    return vim.startswith(name, lead)
  end, names())
end

return M
